package addresses

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	"github.com/tendril-cni/tendril/ipam"
)

// within reports whether a range has an address.
func within(r ipam.Range, a netip.Addr) bool {
	a = a.Unmap()
	return a.Is4() == r.Start.Is4() && r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0
}

// Size is how many addresses a range can hand out: all of it, less what it
// excludes and its gateway.
func Size(r ipam.Range) *big.Int {
	n := span(r.Start, r.End)
	gateway := r.Gateway.IsValid() && within(r, r.Gateway)
	for i, p := range r.Exclude {
		// Prefixes are nested or apart: one inside another counts with that one.
		if slices.ContainsFunc(r.Exclude, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Overlaps(p) }) ||
			slices.Contains(r.Exclude[:i], p) {
			continue
		}
		gateway = gateway && !p.Contains(r.Gateway)
		lo, hi := later(r.Start, p.Masked().Addr()), earlier(r.End, last(p))
		if lo.Compare(hi) <= 0 {
			n.Sub(n, span(lo, hi))
		}
	}
	if gateway {
		n.Sub(n, big.NewInt(1))
	}
	return n
}

func span(from, to netip.Addr) *big.Int {
	n := new(big.Int).Sub(number(to), number(from))
	return n.Add(n, big.NewInt(1))
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return a
	}
	return b
}

func last(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// Text prints a number for a table: the large ones of IPv6 as a power of two.
func Text(n *big.Int) string {
	if n.BitLen() > 32 {
		return fmt.Sprintf("2^%d", n.BitLen()-1)
	}
	return n.String()
}
