package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Run keeps the node's holdings until ctx ends: it ends cool-downs, settles what
// is unknown or in doubt, quarantines what answered a probe, gives back what is
// idle too long or wanted elsewhere, and says who has an address that another
// node asks for. It returns nil when ctx ends.
func (n *Node) Run(ctx context.Context) error {
	// Cooling goes on while the keeper waits for an API server that does not
	// answer: addresses that are freed meanwhile are wanted all the more.
	var cooling sync.WaitGroup
	cooling.Go(func() { n.loop(ctx, (&cooler{node: n, since: map[cooled]time.Time{}}).round) })
	n.loop(ctx, (&keeper{node: n, since: map[place]*watched{}}).round)
	cooling.Wait()
	return nil
}

func (n *Node) loop(ctx context.Context, round func(context.Context, map[place]ipam.Holding, time.Time)) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if all, err := n.holdings(); err != nil && ctx.Err() == nil {
			n.Log.Error("read the ledger of addresses", "error", err)
		} else {
			round(ctx, all, time.Now())
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) holdings() (map[place]ipam.Holding, error) {
	all := map[place]ipam.Holding{}
	err := n.view(func(l *ipam.Ledger) {
		for _, space := range l.Spaces() {
			for _, c := range l.Cells(space) {
				all[place{space, c}] = l.Holding(space, c)
			}
		}
	})
	return all, err
}

// cooler ends cool-downs. One goroutine uses it.
type cooler struct {
	node  *Node
	since map[cooled]time.Time // first seen cooling
}

type cooled struct {
	place
	slot int
}

func (k *cooler) round(_ context.Context, all map[place]ipam.Holding, now time.Time) {
	for c := range k.since {
		if !all[c.place].Cooling.Has(c.slot) {
			delete(k.since, c)
		}
	}
	for p, h := range all {
		var cool ipam.Mask
		for _, i := range h.Cooling.Slots() {
			switch first, seen := k.since[cooled{p, i}]; {
			case !seen:
				k.since[cooled{p, i}] = now
			case now.Sub(first) >= k.node.CoolDown:
				cool |= 1 << i
			}
		}
		if cool == 0 {
			continue
		}
		if err := k.node.update("cooled", func(l *ipam.Ledger) { l.Thaw(p.space, p.cell, cool) }); err != nil {
			k.node.Log.Warn("end the cool-down of addresses", "cell", p.cell, "error", err)
		}
	}
}

// keeper does what needs the API server. One goroutine uses it.
type keeper struct {
	node  *Node
	since map[place]*watched
}

// watched is what the keeper remembers of a cell between rounds.
type watched struct {
	unused time.Time // since when no slot of the cell is in use
	polled time.Time
	// pending is whether a write was unsettled in the round before.
	pending bool
	retry   time.Time // not before, after a failure
	fails   int
}

func (k *keeper) round(ctx context.Context, all map[place]ipam.Holding, now time.Time) {
	for p := range k.since {
		if _, ok := all[p]; !ok {
			delete(k.since, p)
		}
	}
	for p, h := range all {
		w := k.since[p]
		if w == nil {
			w = &watched{polled: now}
			k.since[p] = w
		}
		if ctx.Err() != nil || now.Before(w.retry) {
			continue
		}
		if err := k.keep(ctx, p, w, h, now); err != nil && ctx.Err() == nil {
			w.fails++
			w.retry = time.Now().Add(min(time.Duration(w.fails)*time.Second, 30*time.Second))
			k.node.Log.Debug("keep addresses", "space", p.space, "cell", p.cell, "error", err)
			continue
		}
		w.fails = 0
	}
}

// keep does what is due for one cell.
func (k *keeper) keep(ctx context.Context, p place, w *watched, h ipam.Holding, now time.Time) error {
	seen := w.pending
	w.pending = h.Pending
	switch {
	case h.Pending && !seen && !h.Doubt:
		return nil // most likely a claim that is being made right now
	case h.Pending || h.Doubt:
		return k.node.change(ctx, p, brief, func(*v1alpha1.AddressBlock) (edit, error) { return edit{}, nil })
	case h.Aside != 0:
		return k.quarantine(ctx, p, now)
	}
	if h.Held() != 0 {
		w.unused = time.Time{}
	} else if w.unused.IsZero() {
		w.unused = now
	}
	if idle := k.surplus(h, w, now); idle != 0 || h.Leaving != 0 {
		return k.node.giveBack(ctx, p, idle|h.Leaving, 0)
	}
	every := k.node.Poll
	if h.Idle == 0 {
		every *= 3
	}
	if now.Sub(w.polled) < every {
		return nil
	}
	w.polled = now
	return k.answer(ctx, p, h, now)
}

// surplus are the available slots that the node does not keep: all of them where
// slots are scarce or the cell is long unused, else what is beyond two windows,
// the highest ones first.
func (k *keeper) surplus(h ipam.Holding, w *watched, now time.Time) ipam.Mask {
	idle := h.Available()
	switch {
	case h.Window <= 1, !w.unused.IsZero() && now.Sub(w.unused) >= k.node.IdleAfter:
		return idle
	}
	return idle &^ idle.Lowest(2*int(h.Window))
}

// giveBack returns idle slots of m to everybody.
func (n *Node) giveBack(ctx context.Context, p place, m ipam.Mask, window int) error {
	return n.change(ctx, p, brief, func(b *v1alpha1.AddressBlock) (edit, error) {
		var leaving ipam.Mask
		err := n.update("give back", func(l *ipam.Ledger) { leaving = l.Leave(p.space, p.cell, m) })
		mine, _ := b.Of(n.Name, "")
		if leaving &= mine; err != nil || leaving == 0 {
			return edit{}, err
		}
		b.Spec.Seq++
		// What nobody proved since it became suspect stays so for the next owner. The
		// block itself may not say so: this node knows alone that it lost a record.
		for _, i := range leaving.Slots() {
			if n.suspect(p, i) {
				until := metav1.NewTime(time.Now())
				b.Set(v1alpha1.Slot{Slot: i, Until: &until, Suspect: true, Reason: fmt.Sprintf("given back by node %s without a probe", n.Name)})
				continue
			}
			b.Free(1 << i)
		}
		return edit{write: true, window: window}, nil
	})
}

func (n *Node) suspect(p place, slot int) bool {
	h, err := n.holding(p)
	return err != nil || h.Suspect.Has(slot)
}

// quarantine sets slots aside that something else on the wire has.
func (k *keeper) quarantine(ctx context.Context, p place, now time.Time) error {
	n := k.node
	return n.change(ctx, p, brief, func(b *v1alpha1.AddressBlock) (edit, error) {
		h, err := n.holding(p)
		mine, _ := b.Of(n.Name, "")
		aside := h.Aside & mine
		if err != nil || aside == 0 {
			return edit{}, err
		}
		until := metav1.NewTime(now.Add(n.Quarantine))
		for _, i := range aside.Slots() {
			b.Set(v1alpha1.Slot{Slot: i, Until: &until, Suspect: true, Reason: fmt.Sprintf("answered a probe of node %s", n.Name)})
			n.Log.Warn("address set aside: something else has it", "space", p.space, "address", p.cell.Addr(i), "until", until)
		}
		return edit{write: true}, nil
	})
}

// answer looks whether somebody calls for slots of the cell, gives idle ones back
// and says who has the others that are asked for by number.
func (k *keeper) answer(ctx context.Context, p place, h ipam.Holding, now time.Time) error {
	b, err := k.node.blocks.Get(ctx, v1alpha1.Name(p.space, p.cell), true)
	if err != nil {
		return err
	}
	if b == nil {
		b = v1alpha1.New(p.space, p.cell)
	}
	var strays ipam.Mask
	if err := k.node.view(func(l *ipam.Ledger) { strays = l.Strays(p.space, p.cell) }); err != nil {
		return err
	}
	if mine, _ := b.Of(k.node.Name, k.node.nodeUID()); h.Owned&^mine != 0 || strays&^others(b) != 0 {
		// The cache may only be behind; if not, the slots were reclaimed or are
		// under an earlier uid, or what was reclaimed can be taken back.
		return k.node.change(ctx, p, brief, func(*v1alpha1.AddressBlock) (edit, error) { return edit{}, nil })
	}
	var give ipam.Mask
	tell := false
	for _, w := range b.Spec.Wants {
		switch {
		case w.Node == k.node.Name || now.After(w.Until.Time):
		case w.Slot == nil:
			give = h.Available()
		case h.Held().Has(*w.Slot):
			s := b.At(*w.Slot)
			tell = tell || s != nil && s.Holder == ""
		default:
			give |= h.Available() & (1 << *w.Slot)
		}
	}
	if give != 0 {
		return k.node.giveBack(ctx, p, give, 1)
	}
	if tell {
		return k.node.tell(ctx, p, now)
	}
	return nil
}

// others are the slots of b that somebody has; those in quarantine are nobody's.
func others(b *v1alpha1.AddressBlock) (m ipam.Mask) {
	for _, s := range b.Spec.Slots {
		if s.Until == nil {
			m |= 1 << s.Slot
		}
	}
	return m
}

// tell writes the holders of slots in use that others ask for.
func (n *Node) tell(ctx context.Context, p place, now time.Time) error {
	return n.change(ctx, p, brief, func(b *v1alpha1.AddressBlock) (e edit, err error) {
		err = n.view(func(l *ipam.Ledger) {
			for _, w := range b.Spec.Wants {
				if w.Slot == nil || now.After(w.Until.Time) {
					continue
				}
				o, held := l.Holder(p.space, p.cell.Addr(*w.Slot))
				if s := b.At(*w.Slot); held && s != nil && s.Node == n.Name && s.Holder != o.Pod {
					s.Holder, e.write = o.Pod, true
				}
			}
		})
		return e, err
	})
}
