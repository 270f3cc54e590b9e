package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Defaults implements cni.DefaultRoutes on the kernel. Its zero value is ready,
// and may be used concurrently for different namespaces.
type Defaults struct{}

// Prior implements cni.DefaultRoutes: the note is a list of routes.
func (Defaults) Prior(ctx context.Context, ns *os.File, want []cni.Gateway) (json.RawMessage, error) {
	var others []Route
	err := within(ctx, ns, func(c *Conn) error {
		for _, gw := range want {
			found, err := c.defaults(gw.Via)
			if err != nil {
				return err
			}
			others = append(others, found...)
		}
		return nil
	})
	if err != nil || len(others) == 0 {
		return nil, err
	}
	return json.Marshal(others)
}

// Set implements cni.DefaultRoutes. The new route comes before the old ones go.
func (Defaults) Set(ctx context.Context, ns *os.File, want []cni.Gateway) error {
	return within(ctx, ns, func(c *Conn) error {
		for _, gw := range want {
			if err := c.setDefault(gw); err != nil {
				return fmt.Errorf("default route via %s on %s: %w", gw.Via, gw.IfName, err)
			}
		}
		return nil
	})
}

// impossible are the answers to a route that its interface cannot carry any more,
// because the interface, or its address, is gone: there is nothing to give back,
// and a detach must not fail for it.
var impossible = []error{unix.ENODEV, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.ENETDOWN}

// Restore implements cni.DefaultRoutes.
func (Defaults) Restore(ctx context.Context, ns *os.File, note json.RawMessage) error {
	var routes []Route
	if err := json.Unmarshal(note, &routes); err != nil {
		return fmt.Errorf("read note of default routes: %w", err)
	}
	return within(ctx, ns, func(c *Conn) error {
		for _, r := range routes {
			if l, err := c.LinkByIndex(r.Index); r.Index != 0 && (errors.Is(err, ErrNotFound) || err == nil && !l.Up()) {
				continue
			}
			var b batch
			b.existing("restore", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r).pardon = unix.EEXIST
			err := c.run(&b)
			if err != nil && !slices.ContainsFunc(impossible, func(e error) bool { return errors.Is(err, e) }) {
				return err
			}
		}
		return nil
	})
}

// within calls f with a Conn to ns.
func within(ctx context.Context, ns *os.File, f func(*Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ns == nil {
		return ErrGone
	}
	c, err := Dial(ns)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// defaults returns the default routes of via's family in the main table.
func (c *Conn) defaults(via netip.Addr) ([]Route, error) {
	all, err := c.routes(familyOf(via))
	return slices.DeleteFunc(all, func(r Route) bool { return !r.isDefault() }), err
}

// setDefault makes gw the only default route of its family and looks.
func (c *Conn) setDefault(gw cni.Gateway) error {
	l, err := c.LinkByName(gw.IfName)
	if err != nil {
		return err
	}
	is := func(r Route) bool {
		return r.Index == l.Index && (r.Via == gw.Via || !r.Via.IsValid() && l.Kind == "ipvlan")
	}
	before, err := c.defaults(gw.Via)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(before, is) {
		if err := c.addDefault(l, gw); err != nil {
			return err
		}
		// The new one may have replaced one of the old ones.
		if before, err = c.defaults(gw.Via); err != nil {
			return err
		}
	}
	var b batch
	for _, r := range before {
		if !is(r) {
			b.existing("delete default route", unix.RTM_DELROUTE, 0, r).pardon = unix.ESRCH
		}
	}
	if len(b.ops) > 0 {
		if err := c.run(&b); err != nil {
			return err
		}
	}
	after, err := c.defaults(gw.Via)
	if err == nil && (len(after) != 1 || !is(after[0])) {
		err = fmt.Errorf("observe default routes: %s", c.say(after))
	}
	return err
}

// addDefault adds or replaces, so that there is always a default route.
func (c *Conn) addDefault(l Link, gw cni.Gateway) error {
	var b batch
	o := b.begin("route", "default via "+gw.Via.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.buf = append(b.buf, familyOf(gw.Via), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0)
	b.bytes(unix.RTA_GATEWAY, gw.Via.AsSlice())
	b.u32(unix.RTA_OIF, uint32(l.Index))
	err := c.run(&b)
	if o.err != nil && (o.err.Errno == unix.ENETUNREACH || o.err.Errno == unix.EHOSTUNREACH || o.err.Errno == unix.EINVAL) {
		return refusal.New("interface "+gw.IfName, "default-route", gw.Via.String(), "a gateway in a subnet of the interface").Because(err)
	}
	return err
}

func familyOf(a netip.Addr) uint8 {
	if is6(a) {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// say names routes for an error.
func (c *Conn) say(routes []Route) string {
	var texts []string
	for _, r := range routes {
		name := fmt.Sprintf("link %d", r.Index)
		if l, err := c.LinkByIndex(r.Index); err == nil {
			name = l.Name
		}
		texts = append(texts, fmt.Sprintf("via %v on %s", r.Via, name))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}
