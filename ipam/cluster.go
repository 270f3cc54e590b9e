package ipam

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sync"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Cluster is addresses of which the whole cluster has one each: types tendril
// and whereabouts. An attachment gets one address of every set, the lowest free
// one that its node can have.
type Cluster struct {
	// Space is the address space: whereabouts' network_name, tendril's network.
	// Configurations of one space never give an address twice, whatever their
	// ranges. Empty is a space of its own.
	Space string
	Sets  []RangeSet
	// Static are more addresses that the configuration spells out. Nothing about
	// them is stored.
	Static []Address
	Routes []Route
	DNS    DNS
	// Probe says when an address is probed on the wire before it is used.
	Probe Probe
	// Sticky makes the address of a StatefulSet's pod that pod's own: it outlives
	// the pod, and goes with the ordinal or the set.
	Sticky bool
}

// Probe says when an address is probed for a conflict (ARP, RFC 5227; NDP, RFC
// 4862) before it is used.
type Probe string

// The modes of Probe. ProbeSuspect, the default, probes an address whose
// history is in doubt: reclaimed from a node that is gone, set aside for a
// conflict before, or adopted after its record was lost.
const (
	ProbeOff     Probe = "off"
	ProbeSuspect Probe = "suspect"
	ProbeAlways  Probe = "always"
)

// spaceForm is what an object's name may hold (RFC 1123, lower case), short
// enough to go behind a cell's name. It is compiled by the first who needs it.
var spaceForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
})

const spaceMax = 200

// CheckSpace refuses a name that cannot be that of an address space. Empty is
// the default space.
func CheckSpace(field, name string) error {
	if name == "" || len(name) <= spaceMax && spaceForm().MatchString(name) {
		return nil
	}
	return refusal.New("", field, name, fmt.Sprintf("lower case letters, digits, - and ., at most %d characters", spaceMax))
}

// exclusions reads addresses and CIDRs that are left out. Host bits are masked,
// as whereabouts does: 10.0.0.229/30 leaves out .228 to .231.
func exclusions(list []string, field string, is4 bool) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, text := range list {
		p, ok := parsePrefix(text)
		if a, bare := parseSloppy(text); bare {
			p, ok = netip.PrefixFrom(a, a.BitLen()), true
		}
		if !ok {
			return nil, refusal.New("", fmt.Sprintf("%s[%d]", field, i), text, "an IP address or CIDR")
		}
		if p.Addr().Is4() != is4 {
			return nil, refusal.New("", fmt.Sprintf("%s[%d]", field, i), text, "an address of the family of its range")
		}
		out = append(out, p.Masked())
	}
	return disjoint(out), nil
}

// disjoint drops what lies in another prefix of the list, so that counting the
// parts counts the whole.
func disjoint(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for i, p := range in {
		inside := func(j int) bool {
			q := in[j]
			return q.Bits() < p.Bits() && q.Contains(p.Addr()) || q == p && j < i
		}
		if !slices.ContainsFunc(indices(len(in)), inside) {
			out = append(out, p)
		}
	}
	return out
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// subnetOf reads a subnet that has usable addresses besides its first and last,
// and masks its host bits.
func subnetOf(field, text string, p netip.Prefix, ok bool) (netip.Prefix, error) {
	if !ok {
		return p, refusal.New("", field, text, "a subnet in CIDR form")
	}
	if most := p.Addr().BitLen() - 2; p.Bits() > most {
		return p, refusal.New("", field, text, fmt.Sprintf("prefix length 0..%d, to have an address besides the first and the last", most))
	}
	mapped := netip.AddrFrom16(slotOf(netip.IPv4Unspecified()).bytes())
	if p.Addr().Is4In6() || p.Addr().Is6() && p.Contains(mapped) {
		return p, refusal.New("", field, text, "a subnet without ::ffff:0:0/96 (RFC 4291, IPv4-mapped)")
	}
	return p.Masked(), nil
}

// inside reads an end of a range. The first and the last address of the subnet
// stand for the nearest usable one; what lies outside is refused.
func inside(a *netip.Addr, field, text string, subnet netip.Prefix) error {
	if text == "" {
		return nil
	}
	got, ok := parseSloppy(text)
	if !ok || !subnet.Contains(got) {
		return refusal.New("", field, text, "an address of "+subnet.String())
	}
	switch first, last := subnet.Addr(), broadcastOf(subnet); got {
	case first:
		got = first.Next()
	case last:
		got = last.Prev()
	}
	*a = got
	return nil
}

// whole is a range of every usable address of subnet: neither the first nor the
// last, in both families, as whereabouts has it.
func whole(subnet netip.Prefix) Range {
	return Range{Subnet: subnet, Start: subnet.Addr().Next(), End: broadcastOf(subnet).Prev()}
}
