package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Range is a run of addresses of one subnet, both ends included. The gateway and
// what is excluded are never handed out.
type Range struct {
	// Subnet has no host bits; its length is that of the addresses handed out.
	Subnet     netip.Prefix
	Start, End netip.Addr
	// Gateway may lie outside of the range. It is always set for host-local and
	// may be zero for the other types.
	Gateway netip.Addr
	// Exclude has prefixes without host bits. host-local has none.
	Exclude []netip.Prefix
}

// String returns "start-end".
func (r Range) String() string { return r.Start.String() + "-" + r.End.String() }

func (r Range) contains(a netip.Addr) bool {
	return a.IsValid() && a.Is4() == r.Start.Is4() && r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0
}

func (r Range) overlaps(o Range) bool { return r.contains(o.Start) || o.contains(r.Start) }

// RangeSet is a list of ranges of one family from which an attachment gets one
// address.
type RangeSet []Range

// String returns the ranges, comma separated.
func (s RangeSet) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = r.String()
	}
	return strings.Join(parts, ", ")
}

// find returns the index of the range that contains a, or -1.
func (s RangeSet) find(a netip.Addr) int {
	for i, r := range s {
		if r.contains(a) {
			return i
		}
	}
	return -1
}

// rangeWire is a range as it is written.
type rangeWire struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Gateway    string `json:"gateway"`
}

// parse applies the rules and defaults of host-local (containernetworking
// plugins v1.9, backend/allocator): the gateway is the first address after the
// network's, the range goes from there to the last address, in IPv4 without the
// broadcast address.
func (w rangeWire) parse(path string) (Range, error) {
	subnet, err := netip.ParsePrefix(w.Subnet)
	if err != nil || subnet.Addr().Is4In6() {
		return Range{}, refusal.New("", path+"subnet", w.Subnet, "a subnet in CIDR form")
	}
	// Slots keep IPv4 in its mapped form: a subnet around it would hold both.
	if mapped := slotOf(netip.IPv4Unspecified()).bytes(); subnet.Contains(netip.AddrFrom16(mapped)) && subnet.Addr().Is6() {
		return Range{}, refusal.New("", path+"subnet", w.Subnet, "a subnet without ::ffff:0:0/96 (RFC 4291, IPv4-mapped)")
	}
	if most := subnet.Addr().BitLen() - 2; subnet.Bits() > most {
		return Range{}, refusal.New("", path+"subnet", w.Subnet, fmt.Sprintf("prefix length 0..%d, to have an address besides gateway and broadcast", most))
	}
	if subnet != subnet.Masked() {
		return Range{}, refusal.New("", path+"subnet", w.Subnet, "a subnet without host bits: "+subnet.Masked().String())
	}
	r := Range{Subnet: subnet, Start: subnet.Addr().Next(), End: lastOf(subnet), Gateway: subnet.Addr().Next()}
	first, last := subnet.Addr(), broadcastOf(subnet)
	if err := within(&r.Start, path+"rangeStart", w.RangeStart, first, last); err != nil {
		return Range{}, err
	}
	if err := within(&r.End, path+"rangeEnd", w.RangeEnd, r.Start, last); err != nil {
		return Range{}, err
	}
	if r.End.Less(r.Start) { // only rangeStart was given, and it is the broadcast address
		return Range{}, refusal.New("", path+"rangeStart", w.RangeStart, fmt.Sprintf("%s-%s, or a rangeEnd as well", first, r.End))
	}
	return r, gatewayOf(&r.Gateway, path+"gateway", w.Gateway, subnet.Addr().Is4())
}

// within overwrites a with text, which must lie in lo..hi, unless it is empty.
func within(a *netip.Addr, field, text string, lo, hi netip.Addr) error {
	if text == "" {
		return nil
	}
	got, ok := parseAddr(text)
	if !ok || !(Range{Start: lo, End: hi}).contains(got) {
		return refusal.New("", field, text, fmt.Sprintf("an address of %s-%s", lo, hi))
	}
	*a = got
	return nil
}

// gatewayOf overwrites a with text, which must be of the family asked for,
// unless it is empty. It may lie outside of the subnet.
func gatewayOf(a *netip.Addr, field, text string, is4 bool) error {
	if text == "" {
		return nil
	}
	got, ok := parseAddr(text)
	if !ok || got.Is4() != is4 {
		return refusal.New("", field, text, "an address of the family of its subnet")
	}
	*a = got
	return nil
}

// parseSets reads all range sets and holds them against each other.
func parseSets(wire [][]rangeWire, path func(set, i int) string) ([]RangeSet, error) {
	var sets []RangeSet
	for i, list := range wire {
		if len(list) == 0 {
			return nil, refusal.New("", strings.TrimSuffix(path(i, -1), "."), "[]", "at least one range")
		}
		var set RangeSet
		for j, w := range list {
			r, err := w.parse(path(i, j))
			if err != nil {
				return nil, err
			}
			if j > 0 && r.Start.Is4() != set[0].Start.Is4() {
				return nil, refusal.New("", path(i, j)+"subnet", w.Subnet, "the address family of the set's first range, "+set[0].Subnet.String())
			}
			if other, ok := overlapping(append(sets, set), r); ok {
				return nil, refusal.New("", strings.TrimSuffix(path(i, j), "."), r.String(), "a range that does not overlap "+other.String())
			}
			set = append(set, r)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func overlapping(sets []RangeSet, r Range) (Range, bool) {
	for _, set := range sets {
		for _, other := range set {
			if r.overlaps(other) {
				return other, true
			}
		}
	}
	return Range{}, false
}

// broadcastOf is the last address of p.
func broadcastOf(p netip.Prefix) netip.Addr {
	s := slotOf(p.Addr())
	host := uint(p.Addr().BitLen() - p.Bits())
	if host > 64 {
		s.hi |= 1<<(host-64) - 1
		host = 64
	}
	s.lo |= 1<<host - 1
	return s.addr()
}

// lastOf is the last address of p that a host can have.
func lastOf(p netip.Prefix) netip.Addr {
	if a := broadcastOf(p); a.Is6() {
		return a
	}
	return broadcastOf(p).Prev()
}

// parseAddr reads an address without zone; IPv4 in IPv6 form becomes IPv4.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}
