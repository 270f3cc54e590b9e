//go:build lab

package takeover_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/cni/takeover"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

const pf = "sriov0"

// machine is the lab's.
type machine struct{ fs *sysfs.FS }

func (machine) Identify(path string) (cni.Netns, bool) {
	f, err := netns.Open(path)
	if err != nil {
		return cni.Netns{}, false
	}
	defer f.Close()
	ns, err := netns.Identify(f)
	return ns, err == nil
}

func (m machine) VF(address string) (string, int, string, error) {
	addr, err := vf.ParseAddr(address)
	if err != nil {
		return "", 0, "", err
	}
	v, err := m.fs.VF(addr)
	return v.PF.String(), v.Index, v.Driver, err
}

// sight is VF 0 as the PF has it, and its device on the host.
func sight(t *testing.T, address string) string {
	t.Helper()
	out, err := exec.Command("ip", "link", "show", pf).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var text string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "vf 0 ") {
			text = strings.TrimSpace(line)
		}
	}
	devices, _ := filepath.Glob("/sys/bus/pci/devices/" + address + "/net/*")
	for _, d := range devices {
		mac, _ := os.ReadFile(filepath.Join(d, "address"))
		mtu, _ := os.ReadFile(filepath.Join(d, "mtu"))
		text += fmt.Sprintf("; %s %s %s", filepath.Base(d), strings.TrimSpace(string(mac)), strings.TrimSpace(string(mtu)))
	}
	return text
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// TestInvariant4VFOfSriovCNIIsGivenBack does to a VF what sriov-cni does, leaves
// the files that it leaves, and has Tendril delete the pod.
func TestInvariant4VFOfSriovCNIIsGivenBack(t *testing.T) {
	fs := sysfs.New("/sys")
	link, err := os.Readlink("/sys/class/net/" + pf + "/device/virtfn0")
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Base(link)
	before := sight(t, address)
	devices, _ := filepath.Glob("/sys/bus/pci/devices/" + address + "/net/*")
	if len(devices) != 1 {
		t.Fatalf("VF %s has devices %v", address, devices)
	}
	name := filepath.Base(devices[0])
	raw, err := os.ReadFile(filepath.Join(devices[0], "address"))
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.Fields(before)[4] // "vf 0 link/ether MAC"
	if i := strings.Index(before, "link/ether "); i >= 0 {
		admin = strings.Fields(before[i:])[1]
	}
	pod := netnstest.Pod(t)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.Fd())
	ip(t, "link", "set", pf, "vf", "0", "vlan", "42")
	// igb takes a MAC from the VF only while the PF has set none.
	ip(t, "link", "set", name, "address", "02:00:00:00:00:55")
	ip(t, "link", "set", name, "down")
	ip(t, "link", "set", pf, "vf", "0", "mac", "02:00:00:00:00:55")
	h := netnstest.Handle(t, nil)
	if err := h.LinkSetNsFd(netnstest.Link(t, h, name), int(pod.Fd())); err != nil {
		t.Fatal(err)
	}
	inside := netnstest.Handle(t, pod)
	l := netnstest.Link(t, inside, name)
	if err := inside.LinkSetName(l, "net1"); err != nil {
		t.Fatal(err)
	}
	if err := inside.LinkSetUp(netnstest.Link(t, inside, "net1")); err != nil {
		t.Fatal(err)
	}

	n := newNode(t)
	n.scratch("c1", delegate("cbr0", bridge, ""), delegate("blue/fast", fmt.Sprintf(plain, address, address), `,"deviceID":"`+address+`"`))
	n.result("cbr0", "c1", "eth0", path)
	n.result("fast", "c1", "net1", path)
	n.write(n.dirs.Sriov, "c1-net1", fmt.Sprintf(`{"type":"sriov","name":"fast","Master":%q,"MAC":"02:00:00:00:00:55","deviceID":%q,"VFID":0,"vlan":42,
		"OrigVfState":{"HostIFName":%q,"SpoofChk":true,"Trust":false,"AdminMAC":%q,"EffectiveMAC":%q,"Vlan":0,"VlanQoS":0,"VlanProto":33024,"LinkState":0,"MTU":1500}}`,
		pf, address, name, admin, strings.TrimSpace(string(raw))))
	sandboxes, err := takeover.Read(n.dirs, machine{fs})
	if err != nil {
		t.Fatal(err)
	}
	rec := sandboxes["c1"][1]
	if rec.Attachment.Kind != cni.KindSriov {
		t.Fatalf("the VF is of kind %s", rec.Attachment.Kind)
	}
	d := sriov.New(fs, slog.New(slog.DiscardHandler))
	for range 2 {
		if err := d.Detach(context.Background(), pod, rec); err != nil {
			t.Fatal(err)
		}
	}
	if after := sight(t, address); after != before {
		t.Errorf("the VF is\n%s\nand was\n%s", after, before)
	}
	if _, err := inside.LinkByName("net1"); err == nil {
		t.Error("it is still in the pod")
	}
}
