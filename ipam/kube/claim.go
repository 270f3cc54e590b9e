package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Claim gets the slots that a Reserve needed, and returns when the same Reserve
// is worth running again. The cells of one space are searched by one claim at a
// time: who waits mostly finds that the one before claimed enough.
//
// Errors: *ipam.SharedExhaustedError when nobody gives a slot away within
// Patience; refusal.Refusal, naming the holder, when the very address asked for
// is somebody else's; else what the API server said (try again later). ctx bounds
// it.
func (n *Node) Claim(ctx context.Context, need *ipam.NeedSlots) error {
	if need.Owner.Claim != "" {
		return n.claimSticky(ctx, need)
	}
	for i, w := range need.Wants {
		var err error
		if w.Addr.IsValid() {
			err = n.claimAddr(ctx, need, w)
		} else {
			err = n.claimAny(ctx, need, w, alike(need.Wants[:i+1])+beside(need, w.Set))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// alike counts the wants of the same ranges as the last one: that many slots are
// needed for it.
func alike(wants []ipam.Want) (count int) {
	last := wants[len(wants)-1].Set.String()
	for _, w := range wants {
		if w.Set.String() == last {
			count++
		}
	}
	return count
}

// beside counts the slots of the set that are spoken for by the same transaction.
func beside(need *ipam.NeedSlots, set ipam.RangeSet) (count int) {
	for _, a := range need.Beside {
		if set.Hands(a) {
			count++
		}
	}
	return count
}

// claimAny claims until count slots of the set are available.
func (n *Node) claimAny(ctx context.Context, need *ipam.NeedSlots, w ipam.Want, count int) error {
	deadline := time.Now().Add(n.Patience)
	for round := 1; ; round++ {
		s := &search{node: n, space: need.Space, want: w, count: count, seen: map[ipam.Cell]*v1alpha1.AddressBlock{}}
		release, err := acquire(ctx, &n.mu, n.spaces, need.Space)
		if err != nil {
			return fmt.Errorf("claim addresses of space %q: %w", need.Space, err)
		}
		err = s.run(ctx)
		release()
		if err != nil || s.found {
			return err
		}
		if s.err != nil && len(s.seen) == 0 {
			return s.err
		}
		if round == 1 {
			n.call(ctx, need.Space, s.crowded(), nil)
		}
		if time.Now().After(deadline) {
			return s.exhausted()
		}
		if pause(ctx, time.Duration(round)*100*time.Millisecond) != nil {
			return s.exhausted()
		}
	}
}

// search is one walk over the cells of a set.
type search struct {
	node  *Node
	space string
	want  ipam.Want
	count int
	found bool
	// first is set until the first cell of a roomy set was tried by a node that
	// never claimed there.
	first bool
	// seen are the blocks that had nothing free; err is the last failure.
	seen map[ipam.Cell]*v1alpha1.AddressBlock
	err  error
}

func (s *search) available() (n int, err error) {
	err = s.node.view(func(l *ipam.Ledger) { n = l.Available(s.space, s.want.Set) })
	return n, err
}

// run looks for slots until enough are available; err of the API server does not
// end it before a few cells failed.
func (s *search) run(ctx context.Context) error {
	if err := s.node.settle(ctx, s.space, s.want.Set); err != nil {
		return err
	}
	have, err := s.available()
	if err != nil || have >= s.count {
		s.found = err == nil
		return err
	}
	key := s.space + " " + s.want.Set.String()
	s.node.mu.Lock()
	last := s.node.last[key]
	s.node.mu.Unlock()
	failures := 0
	s.first = last == 0 && s.want.Set.Cells() > near
	candidates(s.want.Set, &last, func(c ipam.Cell) verdict {
		if s.seen[c] != nil || s.want.Set.Mask(c) == 0 {
			return nothing
		}
		s.err = s.take(ctx, c, key)
		switch {
		case ctx.Err() != nil:
			return broken
		case errors.Is(s.err, errCrowd), apierrors.IsConflict(s.err), apierrors.IsAlreadyExists(s.err):
			return contended
		case s.err != nil:
			if failures++; failures > 2 {
				return broken
			}
			return nothing
		}
		if have, err = s.available(); err != nil {
			return broken
		}
		if s.found = have >= s.count; s.found {
			return enough
		}
		return nothing
	})
	if s.found {
		s.node.mu.Lock()
		s.node.last[key] = last
		s.node.mu.Unlock()
		return nil
	}
	if err == nil && failures > 2 {
		err = s.err
	}
	return errors.Join(err, ctx.Err())
}

// settle asks the API server about cells of the set that are in doubt: a pod that
// returns after a reboot is to find its address before others are claimed.
func (n *Node) settle(ctx context.Context, space string, set ipam.RangeSet) error {
	var doubtful []ipam.Cell
	err := n.view(func(l *ipam.Ledger) {
		for _, c := range l.Cells(space) {
			if set.Mask(c) != 0 && l.Holding(space, c).Doubt {
				doubtful = append(doubtful, c)
			}
		}
	})
	for _, c := range doubtful {
		if err == nil {
			err = n.change(ctx, place{space, c}, brief, func(*v1alpha1.AddressBlock) (edit, error) { return edit{}, nil })
		}
	}
	return err
}

// take claims from one cell, or remembers that there is nothing to have.
func (s *search) take(ctx context.Context, c ipam.Cell, key string) error {
	n := s.node
	tries := stubborn
	if s.want.Set.Cells() > near {
		tries = 1 // another cell does as well
	}
	p, tried := place{s.space, c}, ipam.Mask(0)
	if s.first {
		s.first = false
		if err := n.crowd(ctx, p); err != nil {
			return err
		}
	}
	err := n.change(ctx, p, tries, func(b *v1alpha1.AddressBlock) (edit, error) {
		have, err := s.available()
		if err != nil || have >= s.count {
			return edit{}, err
		}
		free := s.want.Set.Mask(c) &^ b.Taken(time.Now())
		if free == 0 {
			s.seen[c] = b
			return edit{}, nil
		}
		w := n.size(b, key, s.want.Set)
		picks, err := n.granted(ctx, p, free, max(w, s.count-have, min(n.waiting(s.space), ipam.CellSize/2)))
		if err != nil {
			return edit{}, err
		}
		if tried |= picks; picks == 0 {
			s.seen[c] = b
			return edit{}, nil
		}
		n.occupy(b, picks)
		return edit{write: true, claimed: picks, window: w}, nil
	})
	if h, readErr := n.holding(p); readErr == nil && !h.Pending {
		n.give(p, tried&^h.Owned)
	}
	return err
}

// errCrowd says that other nodes start in the same place at this moment.
var errCrowd = errors.New("other nodes claim here right now")

// crowd returns errCrowd when the block of p comes into being before its eyes: a
// whole cluster starts, and all but the first few better begin somewhere else
// than try to write here one after the other.
func (n *Node) crowd(ctx context.Context, p place) error {
	name := v1alpha1.Name(p.space, p.cell)
	b, err := n.blocks.Get(ctx, name, true)
	if err != nil || b != nil {
		return err
	}
	if err := pause(ctx, 4*time.Millisecond); err != nil {
		return err
	}
	if b, err = n.blocks.Get(ctx, name, true); err == nil && b != nil {
		return errCrowd
	}
	return err
}

// size is the window for a claim: 1 where somebody starves, or is to be asked for
// every slot.
func (n *Node) size(b *v1alpha1.AddressBlock, key string, set ipam.RangeSet) int {
	if n.other() != nil {
		return 1
	}
	now := time.Now()
	for _, w := range b.Spec.Wants {
		if w.Node != n.Name && now.Before(w.Until.Time) {
			return 1
		}
	}
	burst := n.waiting(b.Spec.Space) >= 4
	n.mu.Lock()
	defer n.mu.Unlock()
	busy := burst || n.claims[key] > 0
	n.claims[key]++
	return window(set, busy)
}

// occupy makes slots of b the node's. What was in quarantine stays suspect.
func (n *Node) occupy(b *v1alpha1.AddressBlock, picks ipam.Mask) {
	for _, i := range picks.Slots() {
		suspect := false
		if was := b.At(i); was != nil {
			suspect = was.Suspect || was.Until != nil
		}
		b.Set(v1alpha1.Slot{Slot: i, Node: n.Name, UID: n.nodeUID(), Suspect: suspect})
	}
	b.DropWants(n.Name)
}

// crowded are some of the cells that others have slots in.
func (s *search) crowded() []ipam.Cell {
	var out []ipam.Cell
	for c, b := range s.seen { // a map: another choice every time
		for _, slot := range b.Spec.Slots {
			if slot.Node != "" && slot.Node != s.node.Name {
				out = append(out, c)
				break
			}
		}
		if len(out) == 8 {
			break
		}
	}
	return out
}

// call asks whoever has slots of the cells for idle ones, or for one slot. It is
// only a hint to others: what fails is left to the next round.
func (n *Node) call(ctx context.Context, space string, cells []ipam.Cell, slot *int) {
	for _, c := range cells {
		err := n.change(ctx, place{space, c}, brief, func(b *v1alpha1.AddressBlock) (edit, error) {
			if len(b.Spec.Wants) >= 63 {
				return edit{}, nil
			}
			b.DropWants(n.Name)
			if slot != nil && b.At(*slot) != nil {
				b.At(*slot).Holder = "" // an answer to an earlier call may be stale
			}
			b.Spec.Wants = append(b.Spec.Wants, v1alpha1.Want{Node: n.Name, Slot: slot, Until: metav1.NewTime(time.Now().Add(2*n.Patience + 4*n.Poll))})
			return edit{write: true}, nil
		})
		if err != nil {
			n.Log.Debug("call for slots", "cell", c, "error", err)
		}
	}
}

// exhausted says who has what.
func (s *search) exhausted() error {
	e := &ipam.SharedExhaustedError{Space: s.space, Set: s.want.Index, Ranges: s.want.Set, Capacity: s.want.Set.Capacity(), Nodes: map[string]int{}}
	now := time.Now()
	for c, b := range s.seen {
		m := s.want.Set.Mask(c)
		for _, slot := range b.Spec.Slots {
			switch {
			case !m.Has(slot.Slot):
			case slot.Node != "":
				e.Nodes[slot.Node]++
			case slot.Claim != "":
				e.Claims++
			case slot.Until != nil && now.Before(slot.Until.Time):
				e.Quarantined++
			}
		}
	}
	err := s.node.view(func(l *ipam.Ledger) {
		for _, c := range l.Cells(s.space) {
			h := l.Holding(s.space, c)
			e.HereUsed += (h.Held() & s.want.Set.Mask(c)).Count()
			e.HereIdle += (h.Idle & s.want.Set.Mask(c)).Count()
		}
	})
	return errors.Join(e, err)
}

// claimAddr claims the very address that is asked for. When another node has it,
// that node is asked: it gives it back if it is idle, or says who has it.
func (n *Node) claimAddr(ctx context.Context, need *ipam.NeedSlots, w ipam.Want) error {
	p := place{need.Space, ipam.CellOf(w.Addr)}
	slot := p.cell.Index(w.Addr)
	deadline := time.Now().Add(n.Patience)
	for round := 1; ; round++ {
		var by *v1alpha1.Slot
		err := n.change(ctx, p, stubborn, func(b *v1alpha1.AddressBlock) (edit, error) {
			mine, _ := b.Of(n.Name, "")
			if by = nil; mine.Has(slot) {
				h, err := n.holding(p)
				if h.Aside.Has(slot) {
					by = &v1alpha1.Slot{Until: &metav1.Time{}, Reason: "set aside: something else on the network has it"}
				}
				return edit{}, err
			}
			if b.Taken(time.Now()).Has(slot) {
				by = b.At(slot)
				return edit{}, nil
			}
			picks, err := n.granted(ctx, p, 1<<slot, 1)
			if err != nil {
				return edit{}, err
			}
			if picks == 0 {
				by = &v1alpha1.Slot{Until: &metav1.Time{}, Reason: "held by a pod of the other allocator"}
				return edit{}, nil
			}
			n.occupy(b, picks)
			return edit{write: true, claimed: picks, window: 1}, nil
		})
		if err != nil || by == nil {
			return err
		}
		if by.Node == "" || by.Holder != "" || time.Now().After(deadline) {
			return n.heldBy(w, by)
		}
		if round == 1 {
			n.call(ctx, need.Space, []ipam.Cell{p.cell}, &slot)
		}
		if pause(ctx, time.Duration(round)*100*time.Millisecond) != nil {
			return n.heldBy(w, by)
		}
	}
}

// heldBy refuses an address and names who has it.
func (n *Node) heldBy(w ipam.Want, by *v1alpha1.Slot) error {
	who := ""
	switch {
	case by.Holder != "":
		who = fmt.Sprintf("held by pod %s on node %s", by.Holder, by.Node)
	case by.Node != "":
		who = fmt.Sprintf("node %s has it and has not said for whom", by.Node)
	case by.Claim != "":
		who = fmt.Sprintf("held by %s, interface %s", by.Claim, by.Interface)
	case by.Until != nil && by.Until.IsZero():
		who = by.Reason
	case by.Until != nil:
		who = fmt.Sprintf("in quarantine until %s: %s", by.Until.UTC().Format(time.RFC3339), by.Reason)
	}
	return refusal.New("", fmt.Sprintf("ips[%d]", w.Asked), w.Addr.String(), fmt.Sprintf("a free address of %s; this one is %s", w.Set, who))
}
