package validate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Held is what one owner has of an address space.
type Held struct {
	// Owner is "node <name>" for addresses that the node hands out or may hand
	// out, "claim <namespace>/<name>" for those of a sticky owner.
	Owner string
	// Addresses are ascending.
	Addresses []netip.Addr
}

// mostOwners is how many owners one finding names.
const mostOwners = 5

// shrunk says who has addresses that a change takes out of the ranges. It denies
// nothing: a range is a filter, pods keep what they have, and the addresses are
// free again when they end.
func (l *list) shrunk(before, after *Summary, f Facts) {
	if f.Held == nil || !before.Shared || before.Domain != after.Domain {
		return
	}
	left := without(before.Ranges, after.Ranges)
	if len(left) == 0 {
		return
	}
	var who []string
	for _, h := range f.Held(before.Space, left) {
		if len(h.Addresses) == 1 {
			who = append(who, fmt.Sprintf("%s has %s", h.Owner, h.Addresses[0]))
		} else if len(h.Addresses) > 1 {
			who = append(who, fmt.Sprintf("%s has %d from %s", h.Owner, len(h.Addresses), h.Addresses[0]))
		}
	}
	if len(who) == 0 {
		return
	}
	if more := len(who) - mostOwners; more > 0 {
		who = append(who[:mostOwners], fmt.Sprintf("%d more", more))
	}
	l.add(AddressRange, Warn, "spec.config.ipam", short(fmt.Sprint(after.Ranges)), "ranges with the addresses that are taken: "+strings.Join(who, ", "))
}

// without returns what of before is not in after.
func without(before, after []Span) []Span {
	after = slices.SortedFunc(slices.Values(after), func(a, b Span) int { return a.From.Compare(b.From) })
	var out []Span
	for _, s := range before {
		for _, x := range after {
			if !s.From.IsValid() || !s.overlaps(x) {
				continue
			}
			if s.From.Less(x.From) {
				out = append(out, Span{s.From, x.From.Prev()})
			}
			s.From = x.To.Next() // invalid behind the last address of all
			if s.From.IsValid() && s.To.Less(s.From) {
				s.From = netip.Addr{}
			}
		}
		if s.From.IsValid() {
			out = append(out, s)
		}
	}
	return out
}
