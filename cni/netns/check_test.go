package netns_test

import (
	"context"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestCheckNamesWhatIsDifferent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*netlink.Handle, netlink.Link) error
		says   []string
	}{
		"nothing": {func(*netlink.Handle, netlink.Link) error { return nil }, nil},
		"down":    {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) }, []string{"state is down", "route 203.0.113.0/24"}},
		"mtu":     {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, 1300) }, []string{"mtu is 1300"}},
		"mac": {func(h *netlink.Handle, l netlink.Link) error {
			return h.LinkSetHardwareAddr(l, []byte{2, 0, 0, 0, 0, 0xee})
		}, []string{"mac is 02:00:00:00:00:ee"}},
		"address": {func(h *netlink.Handle, l netlink.Link) error {
			a, _ := netlink.ParseAddr("198.51.100.2/24")
			return h.AddrDel(l, a)
		}, []string{"address 198.51.100.2/24 is not there"}},
		"renamed": {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetName(l, "other0") }, []string{"name is other0"}},
		"gone":    {func(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) }, []string{"no such link"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := netnstest.Pod(t)
			master, _ := netnstest.Veth(t)
			conn := dial(t, pod)
			s := spec("net1", master)
			s.Setup.Addresses = []cni.Address{address("198.51.100.2/24"), address("2001:db8:b::2/64")}
			s.Setup.Routes = []cni.Route{route("203.0.113.0/24", "198.51.100.9"), route("2001:db8:c::/64", "")}
			l, err := conn.Create(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			want := netns.Expected{Owner: owner(s), MAC: l.MAC, MTU: l.MTU, Addresses: s.Setup.Addresses, Routes: s.Setup.Routes}
			want.Owner.Index = l.Index
			h := netnstest.Handle(t, pod)
			if err := c.change(h, netnstest.Link(t, h, "net1")); err != nil {
				t.Fatal(err)
			}
			err = conn.Check(want)
			if (err == nil) != (c.says == nil) {
				t.Errorf("error = %v", err)
			}
			for _, part := range c.says {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error does not say %q: %v", part, err)
				}
			}
		})
	}
}
