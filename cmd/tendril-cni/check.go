package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cmd/tendril-cni/state"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

// check compares the pod with what ADD observed: the link with its MAC and MTU,
// its addresses and its routes.
func (d driver) check(ctx context.Context, c call) error {
	if err := checkIPAM(ctx, c); err != nil {
		return err
	}
	prev, err := c.prevResult()
	if err != nil {
		return err
	}
	if prev == nil {
		return errNoPrevious("CHECK")
	}
	dir, err := state.Open(state.Default)
	if err != nil {
		return err
	}
	e, ok, err := dir.Get(c.named(d.kind), "")
	switch {
	case err != nil:
		return err
	case !ok || dir.Stale(e) || e.Record.Phase != cni.Attached:
		return fmt.Errorf("check %s: container %s has no such interface of type %s", c.IfName, c.ContainerID, d.kind)
	}
	// A later plugin of the chain may have changed the hardware address.
	for _, in := range prev.Interfaces {
		if in.Name == e.Record.Link.Name && in.Sandbox != "" && in.Mac != "" {
			e.Record.Link.MAC = in.Mac
		}
	}
	ns, err := netns.Open(c.Netns)
	if err != nil {
		return err
	}
	return errors.Join(compare(ns, e.Record), ns.Close())
}

func compare(ns *os.File, r cni.Record) error {
	if r.Link.Index == 0 {
		return nil // a device of user space
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(r.Link.Name)
	if err != nil {
		return fmt.Errorf("check %s: %w", r.Link.Name, err)
	}
	at := l.Attrs()
	switch {
	case at.Index != r.Link.Index:
		return fmt.Errorf("check %s: it is another link now", r.Link.Name)
	case at.HardwareAddr.String() != r.Link.MAC:
		return fmt.Errorf("check %s: MAC is %s, was %s", r.Link.Name, at.HardwareAddr, r.Link.MAC)
	}
	return errors.Join(compareAddresses(h, l, r.Attachment), compareRoutes(h, l, r.Attachment))
}

func compareAddresses(h *netlink.Handle, l netlink.Link, a cni.Attachment) error {
	have, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("check addresses of %s: %w", a.IfName, err)
	}
	for _, want := range a.Addresses {
		if !slices.ContainsFunc(have, func(b netlink.Addr) bool { return prefixOf(b.IP, b.Mask) == want.Prefix }) {
			return fmt.Errorf("check %s: address %s is missing", a.IfName, want.Prefix)
		}
	}
	return nil
}

// compareRoutes looks for the routes in all tables: later plugins of the chain
// may have moved them.
func compareRoutes(h *netlink.Handle, l netlink.Link, a cni.Attachment) error {
	have, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: 0}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("check routes of %s: %w", a.IfName, err)
	}
	for _, want := range a.Routes {
		if !slices.ContainsFunc(have, func(r netlink.Route) bool {
			return r.Dst != nil && prefixOf(r.Dst.IP, r.Dst.Mask) == want.Dst && (r.LinkIndex == l.Attrs().Index || len(r.MultiPath) > 0)
		}) {
			return fmt.Errorf("check %s: the route to %s is missing", a.IfName, want.Dst)
		}
	}
	return nil
}

func prefixOf(ip, mask []byte) netip.Prefix {
	a, _ := netip.AddrFromSlice(ip)
	ones := 0
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			ones++
		}
	}
	if a.Is4In6() && len(mask) == 16 {
		ones -= 96
	}
	return netip.PrefixFrom(a.Unmap(), ones)
}
