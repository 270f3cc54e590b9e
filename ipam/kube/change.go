package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// edit is what an edit function wants done with a block.
type edit struct {
	// write says that the block was changed; claimed are slots that are the node's
	// now if the write is done.
	write   bool
	claimed ipam.Mask
	// window is recorded as Holding.Window, 0 for none.
	window int
}

// How often a change is tried before it gives up: briefly where another block
// would do as well, stubbornly where this is the one.
const (
	brief    = 3
	stubborn = 40
)

// change reads a block, brings the ledger in line with it, lets fn edit it and
// writes it, until the outcome is known. It gives up, with an error, when the API
// server refuses, when others are always first, or when the context ends; what is
// unknown then stays announced in the ledger and is settled by the next change of
// the block. fn is called again for every new content.
func (n *Node) change(ctx context.Context, p place, tries int, fn func(*v1alpha1.AddressBlock) (edit, error)) error {
	release, err := acquire(ctx, &n.mu, n.cells, p)
	if err != nil {
		return err
	}
	defer release()
	var claimed ipam.Mask
	var last error
	failures := 0
	for try := range tries {
		if try > 0 {
			if stop := pause(ctx, min(15*time.Millisecond<<min(try, 5), 300*time.Millisecond)); stop != nil {
				break
			}
		}
		block, fence, err := n.read(ctx, p, claimed)
		if last = err; err != nil {
			if failures++; failures == brief {
				break // to be outrun is one thing, not to be answered another
			}
			continue
		}
		reowned, err := n.reown(p, block)
		if err != nil {
			return err
		}
		e, err := fn(block)
		if err != nil {
			return err
		}
		if !e.write && !fence && !reowned {
			return nil
		}
		if !e.write {
			block.Spec.Seq++ // a write that changes nothing would not fence
		}
		claimed |= e.claimed
		var done outcome
		if done, last = n.write(ctx, p, block, e); done == written {
			return last
		}
		if done == refused && !apierrors.IsTooManyRequests(last) {
			break
		}
		if done != outdated {
			if failures++; failures == 2*brief {
				break
			}
		}
	}
	return fmt.Errorf("change address block %s: %w", v1alpha1.Name(p.space, p.cell), errors.Join(last, ctx.Err()))
}

// read returns the block of p as a quorum has it. The ledger is brought in line,
// unless a write is on its way that was aimed at this very version: then fence is
// true, and only another write to that version settles it.
func (n *Node) read(ctx context.Context, p place, claimed ipam.Mask) (block *v1alpha1.AddressBlock, fence bool, err error) {
	block, err = n.blocks.Get(ctx, v1alpha1.Name(p.space, p.cell), false)
	if err != nil {
		return nil, false, err
	}
	if block == nil {
		block = v1alpha1.New(p.space, p.cell)
	}
	if space, cell, ok := block.Parse(); !ok || space != p.space || cell != p.cell {
		return nil, false, fmt.Errorf("read address block %s: it says space %q, cell %s", block.Name, block.Spec.Space, block.Spec.Cell)
	}
	h, err := n.holding(p)
	if err != nil {
		return nil, false, err
	}
	if h.Pending && h.Version == block.ResourceVersion {
		return block, true, nil
	}
	return block, false, n.sync(p, block, h, claimed)
}

// write announces and sends block, and records the outcome.
func (n *Node) write(ctx context.Context, p place, block *v1alpha1.AddressBlock, e edit) (outcome, error) {
	var before ipam.Holding
	err := n.update("claim", func(l *ipam.Ledger) {
		before = l.Holding(p.space, p.cell)
		l.Expect(p.space, p.cell, block.ResourceVersion, e.window)
	})
	if err != nil {
		return refused, err
	}
	block.DropLapsedWants(time.Now())
	update := block.ResourceVersion != ""
	after, err := n.blocks.Write(ctx, block)
	switch done := outcomeOf(err, update); done {
	case written:
		h, err := n.holding(p)
		if err != nil {
			return refused, err
		}
		return written, n.sync(p, after, h, e.claimed)
	case refused:
		if before.Pending {
			return refused, err // an earlier write may still come
		}
		dropped := n.update("claim refused", func(l *ipam.Ledger) { l.Refused(p.space, p.cell) })
		if dropped != nil {
			n.Log.Warn("record a refused claim", "cell", p.cell, "error", dropped)
		}
		return refused, err
	default:
		// Outdated too stays announced until the block was read again: something on
		// the way that repeats requests could have had it written the first time.
		return done, err
	}
}

// sync brings the ledger in line with a block, if it is not.
func (n *Node) sync(p place, block *v1alpha1.AddressBlock, h ipam.Holding, claimed ipam.Mask) error {
	mine, suspect := block.Of(n.Name, "")
	if h.Owned == mine && !h.Pending && !h.Doubt && h.Leaving == 0 {
		return nil
	}
	type holder struct {
		addr  netip.Addr
		owner ipam.Owner
	}
	var lost []holder
	err := n.update("claimed", func(l *ipam.Ledger) {
		lost = nil
		for _, a := range l.Sync(p.space, p.cell, ipam.Confirmed{Mine: mine, Suspect: suspect, Claimed: claimed}) {
			o, _ := l.Holder(p.space, a)
			lost = append(lost, holder{a, o})
		}
	})
	if err != nil {
		return err
	}
	// What an attachment has is not the peer's: reown takes it back, or another node
	// has it, and the peer is to keep out all the more.
	used := ipam.Mask(0)
	for _, x := range lost {
		used |= 1 << p.cell.Index(x.addr)
	}
	n.give(p, h.Owned&^mine&^used)
	for _, x := range lost {
		if s := block.At(p.cell.Index(x.addr)); s == nil || s.Until != nil {
			continue // nobody has it yet: reown takes it back
		}
		n.Log.Error("address is in use here but no longer this node's: the node was taken for gone", "space", p.space, "address", x.addr, "pod", x.owner.Pod, "container", x.owner.Container)
		if n.Lost != nil {
			n.Lost(p.space, x.addr, x.owner)
		}
	}
	return nil
}

// reown makes the node the owner of slots under its Node object's present uid:
// those that it got under an earlier one, so that they are not taken for those of
// a node that is gone, and those that attachments of it hold although they were
// reclaimed, as long as nobody else got them.
func (n *Node) reown(p place, block *v1alpha1.AddressBlock) (changed bool, err error) {
	var held ipam.Mask
	err = n.view(func(l *ipam.Ledger) {
		for i := range ipam.CellSize {
			if s := block.At(i); s == nil || s.Until != nil {
				if _, ok := l.Holder(p.space, p.cell.Addr(i)); ok {
					held |= 1 << i
				}
			}
		}
	})
	for _, i := range held.Slots() {
		block.Set(v1alpha1.Slot{Slot: i, Node: n.Name, UID: n.nodeUID()})
		n.Log.Warn("address in use here was reclaimed; taken back", "space", p.space, "address", p.cell.Addr(i))
	}
	mine, _ := block.Of(n.Name, "")
	current, _ := block.Of(n.Name, n.nodeUID())
	for _, i := range (mine &^ current).Slots() {
		s := *block.At(i)
		s.UID = n.nodeUID()
		block.Set(s)
	}
	return held != 0 || mine != current, err
}

// pause waits for about d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
