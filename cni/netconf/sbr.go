package netconf

import (
	"fmt"
	"net/netip"
)

// SourceRouting is the configuration of source based routing for an interface.
type SourceRouting struct {
	// Table nil takes the first free one from 100 up for each address and moves
	// the interface's routes there; a value only adds the rules.
	Table *int
	// Gateways are at most one of each family; they stand before the ipam's.
	Gateways []netip.Addr
	// SourceHints keeps the subnets' routes in the main table, with the address
	// as preferred source.
	SourceHints bool
}

// ParseSBR reads the configuration of sbr (containernetworking plugins v1.9,
// meta/sbr). Every error is a refusal.Refusal without an object.
func ParseSBR(p Plugin) (SourceRouting, error) {
	o := openObject("", p.Raw)
	s := SourceRouting{Table: toInt(o.integer("table", 1, 1<<32-1)), SourceHints: o.flag("addSourceHints")}
	seen := map[bool]bool{}
	for i, text := range o.texts("gateways") {
		a, ok := parseAddr(text)
		switch {
		case !ok:
			o.refuse(fmt.Sprintf("gateways[%d]", i), text, "an IP address")
		case seen[a.Is4()]:
			o.refuse(fmt.Sprintf("gateways[%d]", i), text, "at most one address of each family")
		}
		seen[a.Is4()] = true
		s.Gateways = append(s.Gateways, a)
	}
	if o.err != nil {
		return SourceRouting{}, o.err
	}
	return s, nil
}
