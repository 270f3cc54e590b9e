//go:build lab

package vrf_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/vrf"
)

// interfaceIn makes a macvlan in ns with both families and default routes.
func interfaceIn(t *testing.T, ns *os.File, name string) cni.Record {
	t.Helper()
	master, _ := netnstest.Veth(t)
	a := netnstest.Attachment("macvlan", `{"master":"`+master.Attrs().Name+`"}`)
	a.IfName = name
	a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.8.0.5/24")}, {Prefix: netip.MustParsePrefix("2001:db8:8::5/64")}}
	a.Routes = []cni.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.8.0.1")},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8:8::1")},
	}
	return netnstest.MustAttach(t, macvlan.New(mute), ns, a)
}

// routes counts the unicast routes of a table by family, link-local ones left out.
func routes(t *testing.T, h *netlink.Handle, table int) (v4, v6 int) {
	t.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := h.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.Type != 1 || r.Dst.IP.IsLinkLocalUnicast() {
				continue
			}
			if family == netlink.FAMILY_V4 {
				v4++
			} else {
				v6++
			}
		}
	}
	return v4, v6
}

func TestMembersComeAndGo(t *testing.T) {
	ns, m := netnstest.Pod(t), vrf.New(mute)
	h := netnstest.Handle(t, ns)
	var members []cni.Record
	for _, name := range []string{"net1", "net2"} {
		r, err := netnstest.Modify(m, ns, interfaceIn(t, ns, name), "vrf", `{"vrfname":"red"}`)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Check(ctx, ns, r); err != nil {
			t.Error(err)
		}
		members = append(members, r)
	}
	v := netnstest.Link(t, h, "red").(*netlink.Vrf)
	l := netnstest.Link(t, h, "net1")
	if l.Attrs().MasterIndex != v.Index || v.Table != 1 || v.Flags&1 == 0 {
		t.Errorf("VRF %+v, link %+v", v, l.Attrs())
	}
	addrs, err := h.AddrList(l, netlink.FAMILY_V6)
	if err != nil || len(addrs) != 2 { // and the link-local one
		t.Errorf("addresses %v, %v", addrs, err)
	}
	if v4, v6 := routes(t, h, 1); v4 < 2 || v6 < 2 {
		t.Errorf("%d and %d routes in the table, want the subnets' and the default ones", v4, v6)
	}
	if v4, v6 := routes(t, h, 254); v4+v6 != 0 {
		t.Errorf("%d and %d routes are left in the main table", v4, v6)
	}
	for i, r := range members {
		if i == 1 { // gone before its Detach
			if err := h.LinkDel(netnstest.Link(t, h, "net2")); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := m.Detach(ctx, ns, r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.LinkByName("red"); (err == nil) != (i == 0) {
			t.Errorf("after %d members left: VRF: %v", i+1, err)
		}
	}
	if err := m.Detach(ctx, nil, members[0]); err != nil {
		t.Error(err)
	}
}

func TestVRFOfThePodStays(t *testing.T) {
	ns, m := netnstest.Pod(t), vrf.New(mute)
	h := netnstest.Handle(t, ns)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "blue"
	if err := h.LinkAdd(&netlink.Vrf{LinkAttrs: attrs, Table: 7}); err != nil {
		t.Fatal(err)
	}
	r := interfaceIn(t, ns, "net1")
	_, err := netnstest.Modify(m, ns, r, "vrf", `{"vrfname":"blue","table":8}`)
	netnstest.Refused(t, err, "table", "8", "7")
	if r, err = netnstest.Modify(m, ns, r, "vrf", `{"vrfname":"blue"}`); err != nil {
		t.Fatal(err)
	}
	other := r
	_, err = netnstest.Modify(m, ns, other, "vrf", `{"vrfname":"green"}`)
	netnstest.Refused(t, err, "vrfname", "green", "master")
	if err := m.Detach(ctx, ns, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Link(t, h, "blue")
}
