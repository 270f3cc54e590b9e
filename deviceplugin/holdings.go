package deviceplugin

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Holding is a device that somebody has now.
type Holding struct {
	// ID is the device.
	ID string
	// Resource is "prefix/name" of the extended resource as which it was given
	// out, by whichever device plugin; empty where that is not known.
	Resource string
	// Owner says who has it, for example "pod blue/web".
	Owner string
}

// holdings is who has which device at one moment, as far as this process was
// told. Its methods may be called concurrently.
type holdings struct {
	// ask is Options.Holdings; nil for nobody to ask.
	ask func(context.Context) ([]Holding, error)
	now atomic.Pointer[census]
	// contested is whether a pool has a device that somebody else holds, whose
	// return is worth looking for.
	contested atomic.Bool
	// look asks follow for a census at once.
	look chan struct{}
}

// census is one answer.
type census struct {
	// asked is when the question began: what was given out before, less Settle,
	// is in it.
	asked time.Time
	byID  map[string][]Holding
}

// Settle is how long after its answer to Allocate a device counts as given out
// although the kubelet does not tell of its pod: podresources shows a pod from its
// admission on, which is when the kubelet allocates, but nothing says in which
// order.
const Settle = 10 * time.Second

const (
	// askTimeout is for one answer, and contestedSweep and calmSweep the time
	// between two.
	askTimeout     = 5 * time.Second
	contestedSweep = sweep
	calmSweep      = time.Minute
)

// follow asks now, when wanted, and at every sweep, and calls changed after an
// answer that differs, until ctx ends. An answer that does not come changes
// nothing: what was held stays held.
func (h *holdings) follow(ctx context.Context, changed func(), failed func(error)) {
	if h.ask == nil {
		return
	}
	for ctx.Err() == nil {
		if err := h.count(ctx, changed); err != nil && ctx.Err() == nil {
			failed(err)
		}
		every := calmSweep
		if h.contested.Load() || h.now.Load() == nil {
			every = contestedSweep
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
		case <-h.look:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (h *holdings) count(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	next := &census{asked: time.Now(), byID: map[string][]Holding{}}
	list, err := h.ask(ctx)
	if err != nil {
		return fmt.Errorf("ask who holds devices: %w", err)
	}
	for _, one := range list {
		next.byID[one.ID] = append(next.byID[one.ID], one)
	}
	last := h.now.Swap(next)
	// With a contested device the time of the answer counts too: an allocation
	// may be over now that was too young before.
	if last == nil || h.contested.Load() || !last.same(next) {
		changed()
	}
	return nil
}

func (c *census) same(d *census) bool {
	if len(c.byID) != len(d.byID) {
		return false
	}
	for id, list := range c.byID {
		if !slices.Equal(list, d.byID[id]) {
			return false
		}
	}
	return true
}

// again asks for a census; it never waits.
func (h *holdings) again() {
	select {
	case h.look <- struct{}{}:
	default:
	}
}

// of returns who has the device by the last census.
func (h *holdings) of(id string) []Holding {
	if now := h.now.Load(); now != nil {
		return now.byID[id]
	}
	return nil
}

// over reports whether the allocation of the device has ended for certain: a
// census that would have it does not.
func (h *holdings) over(a Allocation, id string) bool {
	now := h.now.Load()
	if now == nil || now.asked.Before(a.Time.Add(Settle)) {
		return false
	}
	return !slices.ContainsFunc(now.byID[id], func(one Holding) bool {
		return one.Resource == "" || one.Resource == a.Resource
	})
}

// holder is Host.Holder: who has the device in any other way than by this
// resource, whose devices the kubelet itself keeps account of.
func (p *Plugin) holder(id, resource string) string {
	last, allocated := p.allocations.Last(id)
	all := p.holdings.of(id)
	own := func(one Holding) bool {
		return one.Resource == resource || one.Resource == "" && allocated && last.Resource == resource
	}
	switch {
	case slices.ContainsFunc(all, own):
		return ""
	case len(all) > 0 && all[0].Resource == "":
		return all[0].Owner
	case len(all) > 0:
		return all[0].Owner + " as " + all[0].Resource
	}
	if allocated && last.Resource != resource && !p.holdings.over(last, id) {
		return "a container as " + last.Resource
	}
	return ""
}

// inUse reports whether somebody has the device, or may have: before the first
// census anybody may have anything.
func (p *Plugin) inUse(id string) bool {
	if p.holdings.ask != nil && p.holdings.now.Load() == nil {
		return true
	}
	last, allocated := p.allocations.Last(id)
	return len(p.holdings.of(id)) > 0 || allocated && !p.holdings.over(last, id)
}
