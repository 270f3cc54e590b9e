package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// Claims are network devices that the host uses itself, by name, each with what
// for in words that go after the device's name: "carries the address
// 10.0.0.1/24". Devices that are free are not in it.
type Claims map[string]string

// Of says what the host uses p for, with the device's name first, and "" for
// nothing: any of the function's ports counts.
func (c Claims) Of(p vf.PF) string {
	for _, name := range append([]string{p.Netdev}, p.Ports...) {
		if claim := c[name]; claim != "" && name != "" {
			return name + " " + claim
		}
	}
	return ""
}

// HostClaims looks at every network device of the calling thread's namespace: an
// address, a route or a master is a claim, and so is any of them on a device that
// stands on it (a VLAN, a macvlan), however many are in between. IPv6's link-local
// addresses and link-local routes are none: every device that is up has them. An
// IPv4 address of 169.254.0.0/16 is one, since somebody gave it: storage and clusters
// run over them.
//
// What cannot be read is an error, and then nothing is known to be free.
func HostClaims() (Claims, error) {
	links, err := complete(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := complete(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := complete(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return claims(links, addrs, routes), nil
}

// complete repeats a dump that a change cut short, for a few times.
func complete[T any](dump func() ([]T, error)) (list []T, err error) {
	for range 5 {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return nil, err
}

func claims(links []netlink.Link, addrs []netlink.Addr, routes []netlink.Route) Claims {
	direct := map[int]string{}
	claim := func(index int, format string, args ...any) {
		if direct[index] == "" {
			direct[index] = fmt.Sprintf(format, args...)
		}
	}
	for _, l := range links {
		if master := l.Attrs().MasterIndex; master != 0 {
			claim(l.Attrs().Index, "has the master %s", name(links, master))
		}
	}
	for _, a := range addrs {
		if a.IP.To4() != nil || !a.IP.IsLinkLocalUnicast() {
			claim(a.LinkIndex, "carries the address %s", a.IPNet)
		}
	}
	for _, r := range routes {
		if routed(r) {
			claim(r.LinkIndex, "carries the route %s", destination(r))
			for _, hop := range r.MultiPath {
				claim(hop.LinkIndex, "carries the route %s", destination(r))
			}
		}
	}
	return spread(links, direct)
}

// spread takes the claims down to the devices below.
func spread(links []netlink.Link, direct map[int]string) Claims {
	for changed := true; changed; {
		changed = false
		for _, l := range links {
			a := l.Attrs()
			// A parent in another namespace has an index of that namespace's.
			if a.ParentIndex == 0 || a.NetNsID >= 0 || direct[a.Index] == "" || direct[a.ParentIndex] != "" || a.ParentIndex == a.Index {
				continue
			}
			direct[a.ParentIndex] = fmt.Sprintf("has %s on it, which %s", a.Name, direct[a.Index])
			changed = true
		}
	}
	out := Claims{}
	for _, l := range links {
		if c := direct[l.Attrs().Index]; c != "" {
			out[l.Attrs().Name] = c
		}
	}
	return out
}

func name(links []netlink.Link, index int) string {
	for _, l := range links {
		if l.Attrs().Index == index {
			return l.Attrs().Name
		}
	}
	return fmt.Sprintf("of index %d", index)
}

// routed leaves out what the kernel makes for every device that is up: routes of
// link-local and multicast addresses, and of the local table, which repeats the
// addresses.
func routed(r netlink.Route) bool {
	if r.Table == unix.RT_TABLE_LOCAL || r.Dst == nil && r.Type == unix.RTN_UNREACHABLE {
		return false
	}
	return r.Dst == nil || !r.Dst.IP.IsLinkLocalUnicast() && !r.Dst.IP.IsMulticast()
}

func destination(r netlink.Route) string {
	if r.Dst == nil || r.Dst.String() == (&net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}).String() {
		return "default"
	}
	return r.Dst.String()
}

// AltNames returns the alternative names of the devices of the calling thread's
// namespace, by device name; devices without any are not in it.
func AltNames() (map[string][]string, error) {
	links, err := complete(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[string][]string{}
	for _, l := range links {
		if names := l.Attrs().AltNames; len(names) > 0 {
			out[l.Attrs().Name] = names
		}
	}
	return out, nil
}

// SetUp sets the network device up and reads that back.
func SetUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	if l, err = netlink.LinkByName(name); err != nil || l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("read back %s: it is not up: %w", name, errors.Join(err, errNotKept))
	}
	return nil
}

// SetMTU sets the network device's MTU and reads it back. An MTU that the driver
// does not take is a refusal.
func SetMTU(name string, mtu int) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if l.Attrs().MTU == mtu {
		return nil
	}
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set MTU of %s: %w", name, refusedMTU(name, mtu, err))
	}
	if l, err = netlink.LinkByName(name); err != nil || l.Attrs().MTU != mtu {
		return fmt.Errorf("read back %s: MTU is not %d: %w", name, mtu, errors.Join(err, errNotKept))
	}
	return nil
}

var errNotKept = errors.New("the driver did not keep it")
