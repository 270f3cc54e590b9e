package forecast

import (
	"time"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Range is one range set of a network.
type Range struct {
	// Network is "namespace/name" of the definition, Index the set's in it.
	Network string
	Index   int
	Space   string
	Set     ipam.RangeSet
}

// Use is how the addresses of a range are used. What is not in any of the numbers
// is free.
type Use struct {
	// Capacity is what the range can hand out, at most the largest uint64.
	Capacity uint64
	// Nodes are with nodes, whether pods have them or not; Claims with IPAMClaims
	// and StatefulSets' pods; Quarantined are nobody's for a while.
	Nodes, Claims, Quarantined uint64
}

// Taken is what cannot be claimed.
func (u Use) Taken() uint64 { return u.Nodes + u.Claims + u.Quarantined }

// Tally counts the use of ranges over all blocks.
type Tally struct {
	bySpace map[string][]int
	ranges  []Range
	uses    []Use
}

// NewTally returns a Tally that has seen no block.
func NewTally(ranges []Range) *Tally {
	t := &Tally{ranges: ranges, bySpace: map[string][]int{}, uses: make([]Use, len(ranges))}
	for i, r := range ranges {
		t.bySpace[r.Space] = append(t.bySpace[r.Space], i)
		t.uses[i].Capacity = r.Set.Capacity()
	}
	return t
}

// Add counts a block as it is at a time. A block that is not what its name says
// does not count.
func (t *Tally) Add(b *v1alpha1.AddressBlock, now time.Time) {
	space, cell, ok := b.Parse()
	if !ok {
		return
	}
	for _, i := range t.bySpace[space] {
		mask := t.ranges[i].Set.Mask(cell)
		if mask == 0 {
			continue
		}
		for _, s := range b.Spec.Slots {
			u := &t.uses[i]
			switch {
			case !mask.Has(s.Slot):
			case s.Node != "":
				u.Nodes++
			case s.Claim != "":
				u.Claims++
			case s.Until != nil && now.Before(s.Until.Time):
				u.Quarantined++
			}
		}
	}
}

// Each calls fn with each range and its use.
func (t *Tally) Each(fn func(Range, Use)) {
	for i, r := range t.ranges {
		fn(r, t.uses[i])
	}
}
