//go:build lab

package vlan_test

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestAttachDetach(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	a := netnstest.Attachment("vlan", `{"master":"`+master.Attrs().Name+`","vlanId":5,"mtu":1400}`)
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.5.0.5/24")}, {Prefix: netip.MustParsePrefix("2001:db8::5/64")}}
	r := netnstest.MustAttach(t, d, pod, a)
	h := netnstest.Handle(t, pod)
	l := netnstest.Link(t, h, "net1").(*netlink.Vlan)
	if l.VlanId != 5 || l.Flags&1 == 0 || l.ParentIndex != master.Attrs().Index {
		t.Errorf("kernel has %+v", l)
	}
	want := cni.Link{Name: "net1", Index: l.Index, MAC: master.Attrs().HardwareAddr.String(), MTU: 1400}
	if diff := cmp.Diff(want, r.Link); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	if err := d.Check(ctx, pod, r); err != nil {
		t.Error(err)
	}
	for _, ns := range []*os.File{pod, pod, nil} {
		if err := d.Detach(ctx, ns, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Absent(t, h, "net1")
}

func TestDetachNeedsNothingOfTheHost(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	r := netnstest.MustAttach(t, d, pod, netnstest.Attachment("vlan", `{"master":"`+master.Attrs().Name+`","vlanId":5}`))
	if err := netnstest.Handle(t, nil).LinkDel(master); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Error(err)
	}
}

// TestInvariant9SecondPodOfAnID: the kernel has one device for each id of a
// master, whatever namespace it is in.
func TestInvariant9SecondPodOfAnID(t *testing.T) {
	master, _ := netnstest.Veth(t)
	conf, d := `{"master":"`+master.Attrs().Name+`","vlanId":5}`, driver()
	first := netnstest.Attachment("vlan", conf)
	first.Network = "red/backup"
	netnstest.MustAttach(t, d, netnstest.Pod(t), first)
	_, err := netnstest.Attach(d, netnstest.Pod(t), netnstest.Attachment("vlan", conf))
	netnstest.Refused(t, err, "vlanId", "5", master.Attrs().Name, "red/backup")
	// Should it come between Prior and Attach, the kernel says no.
	a := netnstest.Attachment("vlan", conf)
	pod := netnstest.Pod(t)
	_, err = d.Attach(ctx, pod, cni.Record{Attachment: a, Prior: []byte(fmt.Sprintf(`{"name":%q,"index":%d,"mtu":1500}`, master.Attrs().Name, master.Attrs().Index))})
	netnstest.Refused(t, err, "vlanId", "5")
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
}

func TestInvariant9MasterDown(t *testing.T) {
	master, _ := netnstest.Veth(t)
	if err := netnstest.Handle(t, nil).LinkSetDown(master); err != nil {
		t.Fatal(err)
	}
	pod, d := netnstest.Pod(t), driver()
	r, err := netnstest.Attach(d, pod, netnstest.Attachment("vlan", `{"master":"`+master.Attrs().Name+`","vlanId":5}`))
	netnstest.Refused(t, err, "master", master.Attrs().Name, "down")
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
}

func TestMasterThatIsABridgePort(t *testing.T) {
	master, _ := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = netnstest.Name("br")
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetMaster(master, br); err != nil {
		t.Fatal(err)
	}
	netnstest.MustAttach(t, driver(), netnstest.Pod(t), netnstest.Attachment("vlan", `{"master":"`+master.Attrs().Name+`","vlanId":5}`))
}

func TestSixtyFourPodsAtOnce(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d := driver()
	var g sync.WaitGroup
	for i := range 64 {
		pod := netnstest.Pod(t)
		g.Go(func() {
			r, err := netnstest.Attach(d, pod, netnstest.Attachment("vlan", fmt.Sprintf(`{"master":%q,"vlanId":%d}`, master.Attrs().Name, i+1)))
			if err != nil {
				t.Errorf("pod %d: %v", i, err)
				return
			}
			if err := d.Detach(ctx, pod, r); err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
		})
	}
	g.Wait()
}
