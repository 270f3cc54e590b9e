package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// TestMasterThatComesBack: the master is deleted, and the kernel takes the pod's
// interface with it; when a link of that name is there again, the daemon makes the
// interface anew, with its MAC, its address and what its chain adds.
func TestMasterThatComesBack(t *testing.T) {
	master, _ := netnstest.Veth(t)
	other, _ := netnstest.Veth(t)
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	name := master.Attrs().Name
	s := sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "one", Definitions: map[string]string{
		"one": fmt.Sprintf(`{"cniVersion":"1.0.0","name":"one","plugins":[{"type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"192.0.2.0/29"}},{"type":"tuning","mtu":1300},{"type":"sbr"}]}`, name),
	}, Default: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q}]}`, other.Attrs().Name)})
	before := podLinks(s) + podSettings(s)
	v := s.Start("", -1)
	if err := s.Call("ADD"); err != nil {
		t.Fatal(err)
	}
	attached := podLinks(s) + podSettings(s)
	inside := netnstest.Handle(t, s.Pod)
	was := netnstest.Link(t, inside, "net1").Attrs()

	h := netnstest.Handle(t, nil)
	if err := h.LinkDel(master); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, inside, "net1")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "w"}); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(netnstest.Link(t, h, name)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); s.Call("CHECK") != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the interface does not come back: %v", s.Call("CHECK"))
		}
	}
	now := netnstest.Link(t, inside, "net1").Attrs()
	if now.Index == was.Index || now.HardwareAddr.String() != was.HardwareAddr.String() || now.MTU != 1300 {
		t.Errorf("the interface is %v, was %v", now, was)
	}
	if got := podLinks(s) + podSettings(s); got != attached {
		t.Errorf("the pod has\n%s\nand had\n%s", got, attached)
	}
	if err := s.Call("DEL"); err != nil {
		t.Fatal(err)
	}
	s.Stop(v)
	if got := podLinks(s) + podSettings(s); got != before || strings.Contains(s.Held(), "record") {
		t.Errorf("left over:\n%s\n%s", got, s.Held())
	}
}
