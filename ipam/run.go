package ipam

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// run is slots, or the numbers of cells, one after the other, both ends included.
type run struct{ first, last slot }

// open are the addresses of r that are not excluded, in ascending order. The gateway is
// among them.
func (r Range) open() []run {
	var out []run
	at, end := slotOf(r.Start), slotOf(r.End)
	excluded := slices.SortedFunc(slices.Values(r.Exclude), netip.Prefix.Compare)
	for _, x := range excluded {
		first, last := slotOf(x.Addr()), slotOf(broadcastOf(x))
		if last.less(at) {
			continue
		}
		if end.less(first) {
			break
		}
		if at.less(first) {
			out = append(out, run{at, first.previous()})
		}
		next, ok := last.next()
		if !ok || end.less(next) {
			return out
		}
		at = next
	}
	return append(out, run{at, end})
}

// capacity is the number of addresses that the range can hand out, at most the largest
// uint64.
func (r Range) capacity() uint64 {
	var sum uint64
	for _, o := range r.open() {
		n := o.first.count(o.last)
		if g := slotOf(r.Gateway); r.Gateway.IsValid() && !g.less(o.first) && !o.last.less(g) && n < math.MaxUint64 {
			n--
		}
		sum = saturated(sum, n)
	}
	return sum
}

// saturated is a+b, at most the largest uint64.
func saturated(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry > 0 {
		return math.MaxUint64
	}
	return sum
}
