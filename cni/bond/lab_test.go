//go:build lab

package bond_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

const plain = `{"mode":"active-backup","miimon":"100","failOverMac":1,"mtu":1400,"linksInContainer":%t,"links":[{"name":%q},{"name":%q}]}`

func attachment(inPod bool, a, b netlink.Link) cni.Attachment {
	at := netnstest.Attachment("bond", fmt.Sprintf(plain, inPod, a.Attrs().Name, b.Attrs().Name))
	at.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.9.0.5/24")}}
	return at
}

// intoPod moves links into the pod, as earlier attachments do.
func intoPod(t *testing.T, pod *os.File, links ...netlink.Link) {
	t.Helper()
	c, err := netns.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, l := range links {
		if err := c.Move(l.Attrs().Index, pod, netns.Target{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBondOfTheHostsLinks(t *testing.T) {
	a, _ := netnstest.Veth(t)
	b, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	host, inside := netnstest.Handle(t, nil), netnstest.Handle(t, pod)
	r := netnstest.MustAttach(t, d, pod, attachment(false, a, b))
	l := netnstest.Link(t, inside, "net1").(*netlink.Bond)
	if l.Mode != netlink.BOND_MODE_ACTIVE_BACKUP || l.Miimon != 100 || l.FailOverMac != netlink.BOND_FAIL_OVER_MAC_ACTIVE || r.Link.MTU != 1400 {
		t.Errorf("kernel has %+v", l)
	}
	for _, s := range []netlink.Link{a, b} {
		netnstest.Absent(t, host, s.Attrs().Name)
		if s := netnstest.Link(t, inside, s.Attrs().Name); s.Attrs().MasterIndex != l.Index {
			t.Errorf("slave %+v", s.Attrs())
		}
	}
	if err := d.Check(ctx, pod, r); err != nil {
		t.Error(err)
	}
	for _, ns := range []*os.File{pod, pod, nil} {
		if err := d.Detach(ctx, ns, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Absent(t, inside, "net1")
	for _, s := range []netlink.Link{a, b} {
		back := netnstest.Link(t, host, s.Attrs().Name).Attrs()
		if back.MTU != 1500 || back.Alias != "" || back.HardwareAddr.String() != s.Attrs().HardwareAddr.String() || back.Flags&1 == 0 {
			t.Errorf("came back as %+v", back)
		}
	}
}

func TestBondOfThePodsLinks(t *testing.T) {
	a, _ := netnstest.Veth(t)
	b, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	intoPod(t, pod, a, b)
	inside := netnstest.Handle(t, pod)
	// Equal addresses, as VFs of careless firmware have them.
	if err := inside.LinkSetHardwareAddr(netnstest.Link(t, inside, b.Attrs().Name), a.Attrs().HardwareAddr); err != nil {
		t.Fatal(err)
	}
	r := netnstest.MustAttach(t, d, pod, attachment(true, a, b))
	l := netnstest.Link(t, inside, "net1")
	// A slave goes before the bond does.
	if err := inside.LinkDel(netnstest.Link(t, inside, a.Attrs().Name)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Absent(t, inside, l.Attrs().Name)
	if s := netnstest.Link(t, inside, b.Attrs().Name); s.Attrs().MasterIndex != 0 || s.Attrs().MTU != 1500 {
		t.Errorf("slave is %+v", s.Attrs())
	}
}

// TestInvariant3DetachOfAnIntent: the second slave is gone when Attach wants it.
func TestInvariant3DetachOfAnIntent(t *testing.T) {
	a, _ := netnstest.Veth(t)
	b, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	at := attachment(false, a, b)
	prior, err := d.Prior(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	host := netnstest.Handle(t, nil)
	if err := host.LinkDel(b); err != nil {
		t.Fatal(err)
	}
	r := cni.Record{Attachment: at, Prior: prior}
	if _, err := d.Attach(ctx, pod, r); err == nil {
		t.Fatal("attached with a slave that is gone")
	}
	for range 2 {
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
	if l := netnstest.Link(t, host, a.Attrs().Name); l.Attrs().Alias != "" || l.Attrs().Flags&1 == 0 {
		t.Errorf("came back as %+v", l.Attrs())
	}
}
