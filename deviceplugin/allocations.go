package deviceplugin

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Allocation is one container's Allocate, answered with success.
type Allocation struct {
	// Resource is "prefix/name".
	Resource string `json:"resource"`
	// IDs are in the order in which the kubelet asked, which is the order in
	// the container's environment.
	IDs  []string  `json:"ids"`
	Time time.Time `json:"time"`
}

// Allocations remembers for every device the last Allocate that gave it out. It
// says nothing about whether the device is still held: the kubelet never tells,
// and podresources is the check. Its size is bounded by the number of devices
// there ever were. The zero Allocations is empty and ready; all methods may be
// called concurrently and none waits for another.
type Allocations struct {
	last sync.Map // id -> *numbered
	next atomic.Uint64
}

type numbered struct {
	Allocation
	number uint64
}

// Add records a as the last allocation of each of its ids. The plugin does so
// by itself; after a restart the daemon adds what it has journaled.
func (a *Allocations) Add(alloc Allocation) {
	alloc.IDs = slices.Clone(alloc.IDs)
	n := &numbered{Allocation: alloc, number: a.next.Add(1)}
	for _, id := range alloc.IDs {
		a.last.Store(id, n)
	}
}

// claim records all of list, as Add does, if every device is free for it: no
// other resource has it, or that allocation is over; it returns what revert takes
// back. Else it records nothing and returns the device, and the allocation that is in
// the way. Two claims of one device at once by two resources cannot both succeed.
func (a *Allocations) claim(list []Allocation, over func(Allocation, string) bool) (done []change, id string, held *Allocation) {
	for _, alloc := range list {
		alloc.IDs = slices.Clone(alloc.IDs)
		n := &numbered{Allocation: alloc, number: a.next.Add(1)}
		for _, id := range alloc.IDs {
			old, free := a.take(id, n, over)
			if !free {
				a.revert(done)
				return nil, id, &old.Allocation
			}
			done = append(done, change{id: id, old: old, now: n})
		}
	}
	return done, "", nil
}

// change is an entry of one device that claim has replaced; old is nil where
// there was none.
type change struct {
	id       string
	old, now *numbered
}

// take makes n the last allocation of the device unless another resource has it,
// and returns the one before.
func (a *Allocations) take(id string, n *numbered, over func(Allocation, string) bool) (old *numbered, free bool) {
	for {
		v, loaded := a.last.LoadOrStore(id, n)
		if !loaded {
			return nil, true
		}
		old := v.(*numbered)
		if old.Resource != n.Resource && !over(old.Allocation, id) {
			return old, false
		}
		if a.last.CompareAndSwap(id, old, n) {
			return old, true
		}
	}
}

// revert undoes changes, the last first, where nobody has replaced them again.
func (a *Allocations) revert(done []change) {
	for _, c := range slices.Backward(done) {
		if c.old == nil {
			a.last.CompareAndDelete(c.id, c.now)
		} else {
			a.last.CompareAndSwap(c.id, c.now, c.old)
		}
	}
}

// Last returns the last allocation of the device id.
func (a *Allocations) Last(id string) (Allocation, bool) {
	v, ok := a.last.Load(id)
	if !ok {
		return Allocation{}, false
	}
	return v.(*numbered).Allocation, true
}

// All returns the allocations that are the last one of at least one device, in
// the order in which they were added.
func (a *Allocations) All() []Allocation {
	seen := map[*numbered]bool{}
	var list []*numbered
	a.last.Range(func(_, v any) bool {
		if n := v.(*numbered); !seen[n] {
			seen[n] = true
			list = append(list, n)
		}
		return true
	})
	slices.SortFunc(list, func(x, y *numbered) int { return cmp.Compare(x.number, y.number) })
	all := make([]Allocation, len(list))
	for i, n := range list {
		all[i] = n.Allocation
	}
	return all
}
