package sbr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// ruleEach adds one rule for each address, all to one table.
func ruleEach(h *netlink.Handle, addresses []cni.Address, table int) error {
	for _, ad := range addresses {
		if err := rule(h, ad.Prefix.Addr(), table); err != nil {
			return err
		}
	}
	return nil
}

// rule adds "from a lookup table", unless it is there: the kernel would take a
// second one.
func rule(h *netlink.Handle, a netip.Addr, table int) error {
	have, err := rulesFrom(h, a)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(have, func(r netlink.Rule) bool { return r.Table == table }) {
		return nil
	}
	r := netlink.NewRule()
	r.Src = &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
	r.Table, r.Protocol, r.Family = table, Protocol, family(a)
	if err := h.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule from %s lookup %d: %w", a, table, err)
	}
	return nil
}

// divide gives each address a table with the routes that concern it, and then
// takes the interface's routes out of the main table.
func divide(h *netlink.Handle, l netlink.Link, addresses []cni.Address, conf netconf.SourceRouting) error {
	index := l.Attrs().Index
	main, err := routesOf(h, unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	var own []netlink.Route
	for _, r := range main {
		// The link-local subnet stays: neighbour discovery answers from there.
		if through(r, index) && !(r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast() && r.Dst.IP.To4() == nil) {
			own = append(own, r)
		}
	}
	taken, err := tables(h)
	if err != nil {
		return err
	}
	for _, ad := range addresses {
		table, err := tableOf(h, ad.Prefix.Addr(), taken)
		if err != nil {
			return err
		}
		if err := fill(h, index, ad, table, own, conf); err != nil {
			return err
		}
	}
	// Not before: a route via a gateway needs the subnet's route while it is made.
	for _, r := range own {
		if err := leave(h, r, addresses, conf.SourceHints); err != nil {
			return err
		}
	}
	return nil
}

// tables returns the numbers of all tables that rules or routes use.
func tables(h *netlink.Handle) (map[int]bool, error) {
	taken := map[int]bool{}
	rules, err := h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	for _, r := range rules {
		taken[r.Table] = true
	}
	routes, err := routesOf(h, unix.RT_TABLE_UNSPEC)
	for _, r := range routes {
		taken[r.Table] = true
	}
	return taken, err
}

// tableOf returns the table that the address has already, or the next free one.
func tableOf(h *netlink.Handle, a netip.Addr, taken map[int]bool) (int, error) {
	rules, err := rulesFrom(h, a)
	if err != nil {
		return 0, err
	}
	if len(rules) > 0 {
		return rules[0].Table, nil
	}
	table := firstTable
	for taken[table] {
		table++
	}
	taken[table] = true
	return table, nil
}

// fill adds the rule of an address and the routes of its table.
func fill(h *netlink.Handle, index int, ad cni.Address, table int, own []netlink.Route, conf netconf.SourceRouting) error {
	a := ad.Prefix.Addr()
	if err := rule(h, a, table); err != nil {
		return err
	}
	gw := gateway(ad, conf)
	if gw.IsValid() {
		r := &netlink.Route{LinkIndex: index, Dst: defaultRoute(a), Gw: gw.AsSlice(), Table: table}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("add default route via %s to table %d: %w", gw, table, err)
		}
	}
	for _, r := range own {
		if !concerns(r, ad) || isDefault(r) && configured(a, conf).IsValid() {
			continue
		}
		if conf.SourceHints && subnetOf(r, ad) {
			r.Src = a.AsSlice()
		}
		r.Table, r.Flags = table, 0
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("add route %s to table %d: %w", r.Dst, table, err)
		}
	}
	return nil
}

// gateway is the configured one of the address's family, or the ipam's.
func gateway(ad cni.Address, conf netconf.SourceRouting) netip.Addr {
	if gw := configured(ad.Prefix.Addr(), conf); gw.IsValid() {
		return gw
	}
	return ad.Gateway
}

func configured(a netip.Addr, conf netconf.SourceRouting) netip.Addr {
	for _, gw := range conf.Gateways {
		if gw.Is4() == a.Is4() {
			return gw
		}
	}
	return netip.Addr{}
}

// subnetOf reports whether r is the route of the address's own subnet.
func subnetOf(r netlink.Route, ad cni.Address) bool {
	return r.Gw == nil && r.Dst != nil && r.Dst.String() == ad.Prefix.Masked().String()
}

// concerns reports whether a route of the interface is for the address: its
// source or its gateway lies in the address's subnet, or it has neither.
func concerns(r netlink.Route, ad cni.Address) bool {
	if routeIs4(r) != ad.Prefix.Addr().Is4() {
		return false
	}
	in := func(ip net.IP) bool {
		a, ok := netip.AddrFromSlice(ip)
		return ok && ad.Prefix.Masked().Contains(a.Unmap())
	}
	return in(r.Src) || in(r.Gw) || r.Src == nil && r.Gw == nil
}

// leave takes a route out of the main table, or, with source hints, keeps that
// of a subnet with the address as its preferred source.
func leave(h *netlink.Handle, r netlink.Route, addresses []cni.Address, hints bool) error {
	for _, ad := range addresses {
		if !hints || !subnetOf(r, ad) {
			continue
		}
		r.Src, r.Flags = ad.Prefix.Addr().AsSlice(), 0
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("keep route %s with source %s: %w", r.Dst, ad.Prefix.Addr(), err)
		}
		return nil
	}
	if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route %s from the main table: %w", r.Dst, err)
	}
	return nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// routesOf returns the unicast routes of a table, both families, 0 for all
// tables but local.
func routesOf(h *netlink.Handle, table int) ([]netlink.Route, error) {
	filter, mask := &netlink.Route{Table: table}, uint64(netlink.RT_FILTER_TABLE)
	all, err := h.RouteListFiltered(netlink.FAMILY_ALL, filter, mask)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var out []netlink.Route
	for _, r := range all {
		if r.Type == unix.RTN_UNICAST && r.Table != unix.RT_TABLE_LOCAL {
			out = append(out, r)
		}
	}
	return out, nil
}

// through reports whether a route leaves by the link.
func through(r netlink.Route, index int) bool {
	for _, hop := range r.MultiPath {
		if hop.LinkIndex == index {
			return true
		}
	}
	return r.LinkIndex == index
}

func defaultRoute(a netip.Addr) *net.IPNet {
	zero := netip.IPv6Unspecified()
	if a.Is4() {
		zero = netip.IPv4Unspecified()
	}
	return &net.IPNet{IP: zero.AsSlice(), Mask: net.CIDRMask(0, a.BitLen())}
}

func routeIs4(r netlink.Route) bool {
	if r.Family != 0 {
		return r.Family == netlink.FAMILY_V4
	}
	return r.Dst != nil && r.Dst.IP.To4() != nil || r.Gw.To4() != nil
}
