package vrf

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// find returns the VRF of the configuration's name, nil if there is none.
func find(h *netlink.Handle, conf netconf.VRF, object string) (*netlink.Vrf, error) {
	l, err := h.LinkByName(conf.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read VRF %s: %w", conf.Name, err)
	}
	v, ok := l.(*netlink.Vrf)
	switch {
	case !ok:
		return nil, refusal.New(object, "vrfname", conf.Name, "the name of a VRF, or of nothing yet; this is a link of type "+l.Type())
	case conf.Table != 0 && v.Table != conf.Table:
		return nil, refusal.New(object, "table", conf.Table, fmt.Sprintf("%d, the table of the pod's VRF %s, or none", v.Table, conf.Name))
	}
	return v, nil
}

// ensure returns the VRF, made and up.
func ensure(h *netlink.Handle, conf netconf.VRF, object string) (*netlink.Vrf, error) {
	v, err := find(h, conf, object)
	if err != nil {
		return nil, err
	}
	if v == nil {
		if err := makeVRF(h, conf, object); err != nil {
			return nil, err
		}
		if v, err = find(h, conf, object); err != nil {
			return nil, err
		}
		if v == nil {
			return nil, fmt.Errorf("make VRF %s: it is gone again", conf.Name)
		}
	}
	if err := h.LinkSetUp(v); err != nil {
		return nil, fmt.Errorf("set VRF %s up: %w", conf.Name, err)
	}
	return v, nil
}

func makeVRF(h *netlink.Handle, conf netconf.VRF, object string) error {
	table := conf.Table
	if table == 0 {
		var err error
		if table, err = freeTable(h); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = conf.Name, netns.Group
	v := &netlink.Vrf{LinkAttrs: attrs, Table: table}
	switch err := h.LinkAdd(v); {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return refusal.New(object, "type", "vrf", "a kind that this node's kernel has; load the module vrf").Because(err)
	case err != nil:
		return fmt.Errorf("make VRF %s: %w", conf.Name, err)
	}
	if err := h.LinkSetAlias(v, aliasPrefix+conf.Name); err != nil {
		return fmt.Errorf("mark VRF %s: %w", conf.Name, err)
	}
	return nil
}

// freeTable returns the first table from 1 up that no VRF has, as the reference
// chooses it.
func freeTable(h *netlink.Handle) (uint32, error) {
	links, err := h.LinkList()
	if err != nil {
		return 0, fmt.Errorf("read VRFs: %w", err)
	}
	taken := map[uint32]bool{}
	for _, l := range links {
		if v, ok := l.(*netlink.Vrf); ok {
			taken[v.Table] = true
		}
	}
	table := uint32(1)
	for taken[table] {
		table++
	}
	return table, nil
}

// join makes the interface a member and puts back what the kernel drops then:
// IPv6 addresses, and routes other than those of its subnets.
func join(h *netlink.Handle, v *netlink.Vrf, a cni.Attachment) error {
	l, err := h.LinkByName(a.IfName)
	if err != nil {
		return fmt.Errorf("join VRF %s: %w", v.Name, err)
	}
	if m := l.Attrs().MasterIndex; m == v.Index {
		return nil
	} else if m != 0 {
		return refusal.New(stacked.Object(a), "vrfname", v.Name, fmt.Sprintf("none for %s, which has a master already (link %d)", a.IfName, m))
	}
	addrs, err := globals(h, l)
	if err != nil {
		return err
	}
	routes, err := routesVia(h, l.Attrs().Index)
	if err != nil {
		return err
	}
	if err := h.LinkSetMaster(l, v); err != nil {
		return fmt.Errorf("join VRF %s: %w", v.Name, err)
	}
	for _, addr := range addrs {
		addr.Flags |= unix.IFA_F_NODAD // it was checked, or vouched for, before
		addr.Flags &^= unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE
		addr.ValidLft, addr.PreferedLft = 0, 0
		if err := h.AddrAdd(l, &addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("put address %s back: %w", addr.IPNet, err)
		}
	}
	for _, r := range routes {
		r.Table, r.Flags = int(v.Table), 0
		if err := h.RouteReplace(&r); err != nil {
			return fmt.Errorf("put route %s into table %d: %w", r.Dst, v.Table, err)
		}
	}
	return nil
}

// globals returns the global IPv6 addresses of the link; IPv4 ones stay.
func globals(h *netlink.Handle, l netlink.Link) ([]netlink.Addr, error) {
	all, err := h.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", l.Attrs().Name, err)
	}
	var out []netlink.Addr
	for _, a := range all {
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			out = append(out, a)
		}
	}
	return out, nil
}

// routesVia returns the routes of the main table that leave by the link and that
// the kernel does not make itself, those with several next hops included.
func routesVia(h *netlink.Handle, index int) ([]netlink.Route, error) {
	all, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var out []netlink.Route
	for _, r := range all {
		leaves := r.LinkIndex == index
		for _, hop := range r.MultiPath {
			leaves = leaves || hop.LinkIndex == index
		}
		if leaves && r.Protocol != unix.RTPROT_KERNEL {
			out = append(out, r)
		}
	}
	return out, nil
}
