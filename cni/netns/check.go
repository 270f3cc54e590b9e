package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
)

// Expected is what a link should still be. Zero fields are not looked at.
type Expected struct {
	// Owner finds the link, under whatever name it has by now.
	Owner Owner
	// ParentDev is the bus device behind it.
	ParentDev string
	MAC       string
	MTU       int
	Addresses []cni.Address
	Routes    []cni.Route
	// AnyTable takes the routes in whatever table they are.
	AnyTable bool
}

// Check compares a link with what it should be, and changes nothing. The error
// says everything that is different.
func (c *Conn) Check(want Expected) error {
	l, err := c.Find(want.Owner)
	if err != nil {
		return err
	}
	var errs []error
	different := func(what string, got, want any) {
		errs = append(errs, fmt.Errorf("%s is %v, want %v", what, got, want))
	}
	if l.Name != want.Owner.Name {
		different("name", l.Name, want.Owner.Name)
	}
	if !l.Up() {
		different("state", "down", "up")
	}
	if want.MAC != "" && l.MAC != want.MAC {
		different("mac", l.MAC, want.MAC)
	}
	if want.MTU != 0 && l.MTU != want.MTU {
		different("mtu", l.MTU, want.MTU)
	}
	if want.ParentDev != "" && l.ParentDev != "" && l.ParentDev != want.ParentDev {
		different("device", l.ParentDev, want.ParentDev)
	}
	return errors.Join(append(errs, c.checkAddresses(l, want.Addresses), c.checkRoutes(l, want.Routes, want.AnyTable))...)
}

func (c *Conn) checkAddresses(l Link, want []cni.Address) error {
	if len(want) == 0 {
		return nil
	}
	have, err := c.addresses(l.Index)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range want {
		if !slices.Contains(have, netip.PrefixFrom(a.Prefix.Addr().Unmap(), a.Prefix.Bits())) {
			errs = append(errs, fmt.Errorf("address %s is not there; there are %v", a.Prefix, have))
		}
	}
	return errors.Join(errs...)
}

// addresses returns the addresses of a link with their prefix lengths.
func (c *Conn) addresses(index int) ([]netip.Prefix, error) {
	var found []netip.Prefix
	err := c.dump("addresses", func(b *batch) *op {
		found = nil
		o := b.begin("read", "addresses", unix.RTM_GETADDR, unix.NLM_F_DUMP)
		b.buf = append(b.buf, unix.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0)
		o.reply = func(typ uint16, body []byte) {
			if typ != unix.RTM_NEWADDR || len(body) < unix.SizeofIfAddrmsg || int(order.Uint32(body[4:])) != index {
				return
			}
			ip, _ := parseAddress(body)
			found = append(found, netip.PrefixFrom(ip, int(body[1])))
		}
		return o
	})
	return found, err
}

func (c *Conn) checkRoutes(l Link, want []cni.Route, anyTable bool) error {
	have := map[uint8][]Route{}
	var errs []error
	for _, r := range want {
		family := familyOf(r.Dst.Addr().Unmap())
		if have[family] == nil {
			var err error
			if have[family], err = c.routes(family); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(have[family], func(h Route) bool { return h.is(r, l.Index, anyTable) }) {
			errs = append(errs, fmt.Errorf("route %s via %v is not there", r.Dst, r.Via))
		}
	}
	return errors.Join(errs...)
}

// is reports whether h is the route r through the link.
func (h Route) is(r cni.Route, index int, anyTable bool) bool {
	table := unix.RT_TABLE_MAIN
	if r.Table != nil {
		table = *r.Table
	}
	return h.Index == index && (anyTable || h.Table == table) && h.Via == r.Via.Unmap() &&
		h.Dst == netip.PrefixFrom(r.Dst.Addr().Unmap(), r.Dst.Bits()).Masked()
}
