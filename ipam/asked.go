package ipam

import (
	"fmt"
	"net/netip"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// ParseAsked reads the addresses that a pod or a configuration asks for (ips of
// the CNI conventions), each an address or a CIDR. A bare address comes back as
// netip.PrefixFrom(addr, -1): its Addr is the address, its Bits are -1. Every
// error is a refusal.Refusal without an object.
func ParseAsked(ips []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, s := range ips {
		p, err := netip.ParsePrefix(s)
		if a, ok := parseAddr(s); ok {
			p, err = netip.PrefixFrom(a, -1), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, refusal.New("", asking(i), s, "an IP address or CIDR")
		}
		for _, q := range out {
			if p.Addr() == q.Addr() {
				return nil, refusal.New("", asking(i), s, "an address that is not asked for already")
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// asking is the field of the i-th address asked for.
func asking(i int) string { return fmt.Sprintf("ips[%d]", i) }

// shown is p as it was asked for.
func shown(p netip.Prefix) string {
	if p.Bits() < 0 {
		return p.Addr().String()
	}
	return p.String()
}
