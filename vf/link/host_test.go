//go:build !lab

package link_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf/link"
)

// veth stands for a PF: the kernel's rules for addresses, routes and masters are
// the same.
func veth(t *testing.T) (netlink.Link, *netlink.Handle) {
	t.Helper()
	master, _ := netnstest.Veth(t)
	return master, netnstest.Handle(t, nil)
}

func claim(t *testing.T, name string) string {
	t.Helper()
	c, err := link.HostClaims()
	if err != nil {
		t.Fatal(err)
	}
	return c[name]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func address(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

func TestInvariant7HostClaims(t *testing.T) {
	vlan := func(t *testing.T, h *netlink.Handle, below netlink.Link, id int) netlink.Link {
		t.Helper()
		a := netlink.NewLinkAttrs()
		a.Name, a.ParentIndex = netnstest.Name("mv"), below.Attrs().Index
		var l netlink.Link = &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}
		must(t, h.LinkAdd(l))
		must(t, h.LinkSetUp(l))
		return l
	}
	rows := []struct {
		name string
		make func(*testing.T, *netlink.Handle, netlink.Link)
		want string
	}{
		{"up with link-local addresses alone", func(*testing.T, *netlink.Handle, netlink.Link) {}, ""},
		{"IPv4 address", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			must(t, h.AddrAdd(l, address(t, "192.0.2.1/24")))
		}, "carries the address 192.0.2.1/24"},
		{"IPv4 link-local address, which somebody gave it", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			must(t, h.AddrAdd(l, address(t, "169.254.7.1/30")))
		}, "carries the address 169.254.7.1/30"},
		{"IPv6 address", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			must(t, h.AddrAdd(l, address(t, "2001:db8::1/64")))
		}, "carries the address 2001:db8::1/64"},
		{"route without address", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			_, dst, _ := net.ParseCIDR("198.51.100.0/24")
			must(t, h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}))
		}, "carries the route 198.51.100.0/24"},
		{"route in another table", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			_, dst, _ := net.ParseCIDR("2001:db8:1::/48")
			must(t, h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Table: 77}))
		}, "carries the route 2001:db8:1::/48"},
		{"bridge port", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			a := netlink.NewLinkAttrs()
			a.Name = netnstest.Name("br")
			b := &netlink.Bridge{LinkAttrs: a}
			must(t, h.LinkAdd(b))
			must(t, h.LinkSetMaster(l, b))
			t.Cleanup(func() { _ = h.LinkDel(b) })
		}, "has the master br"},
		{"address on a device above", func(t *testing.T, h *netlink.Handle, l netlink.Link) {
			must(t, h.AddrAdd(vlan(t, h, l, 5), address(t, "192.0.2.5/24")))
		}, "which carries the address 192.0.2.5/24"},
		{"free device above", func(t *testing.T, h *netlink.Handle, l netlink.Link) { vlan(t, h, l, 6) }, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			l, h := veth(t)
			r.make(t, h, l)
			got := claim(t, l.Attrs().Name)
			if r.want == "" && got != "" || !strings.Contains(got, r.want) {
				t.Errorf("claim %q, want %q", got, r.want)
			}
		})
	}
}

func TestAltNames(t *testing.T) {
	l, h := veth(t)
	must(t, h.LinkAddAltName(l, "another"+l.Attrs().Name))
	names, err := link.AltNames()
	must(t, err)
	if got := names[l.Attrs().Name]; len(got) != 1 || got[0] != "another"+l.Attrs().Name {
		t.Errorf("%v", got)
	}
}

func TestSetUpAndMTU(t *testing.T) {
	l, h := veth(t)
	name := l.Attrs().Name
	must(t, h.LinkSetDown(l))
	for range 2 { // absent is done
		must(t, link.SetUp(name))
		must(t, link.SetMTU(name, 1400))
	}
	if a := netnstest.Link(t, h, name).Attrs(); a.MTU != 1400 || a.Flags&net.FlagUp == 0 {
		t.Errorf("%+v", a)
	}
	var r *refusal.Refusal
	if err := link.SetMTU(name, 20); !errors.As(err, &r) || r.Field != "mtu" {
		t.Errorf("an MTU of 20: %v", err)
	}
	for _, err := range []error{link.SetUp("absent"), link.SetMTU("absent", 1500)} {
		if err == nil || !strings.Contains(err.Error(), "absent") {
			t.Errorf("absent device: %v", err)
		}
	}
}

// No machine of the lab has such a NIC: what can be shown is that none is no error.
func TestProfilesOfAMachineWithoutThem(t *testing.T) {
	var p link.Profiles
	for range 2 {
		if names, err := p.Names(); err != nil || len(names) > 0 {
			t.Errorf("%v, %v", names, err)
		}
	}
}
