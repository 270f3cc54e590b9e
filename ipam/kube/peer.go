package kube

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// granted returns the lowest count slots of free that the peer lets the node
// have.
func (n *Node) granted(ctx context.Context, p place, free ipam.Mask, count int) (picks ipam.Mask, err error) {
	peer := n.other()
	if peer == nil {
		return free.Lowest(count), nil
	}
	for free != 0 && picks.Count() < count {
		one := free.Lowest(1)
		free &^= one
		ok, err := peer.Take(ctx, p.space, p.cell.Addr(one.Slots()[0]))
		if err != nil {
			n.give(p, picks)
			return 0, err
		}
		if ok {
			picks |= one
		}
	}
	return picks, nil
}

// give tells the peer that slots are no longer the node's. What fails stays
// taken in the peer's eyes until the change-over is over: that keeps an address
// from being used and gives none twice.
func (n *Node) give(p place, m ipam.Mask) {
	peer := n.other()
	if peer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.Call)
	defer cancel()
	for _, i := range m.Slots() {
		if err := peer.Give(ctx, p.space, p.cell.Addr(i)); err != nil {
			n.Log.Warn("give an address back to the other allocator", "address", p.cell.Addr(i), "error", err)
		}
	}
}

// Adopt makes the node and owner the holders of addresses that another allocator
// gave owner, whatever ranges say: a live attachment is taken over. It refuses an
// address that somebody else has. Adopting twice is fine.
func (n *Node) Adopt(ctx context.Context, network, space string, owner ipam.Owner, addrs ...netip.Addr) error {
	for _, a := range addrs {
		if err := n.adoptSlot(ctx, space, owner, a); err != nil {
			return err
		}
	}
	return n.update("adopt", func(l *ipam.Ledger) {
		for _, a := range addrs {
			l.Adopt(network, space, owner, a)
		}
	})
}

func (n *Node) adoptSlot(ctx context.Context, space string, owner ipam.Owner, a netip.Addr) error {
	p := place{space, ipam.CellOf(a)}
	slot := p.cell.Index(a)
	return n.change(ctx, p, stubborn, func(b *v1alpha1.AddressBlock) (edit, error) {
		mine, _ := b.Of(n.Name, "")
		if mine.Has(slot) {
			return edit{}, nil
		}
		if s := b.At(slot); s != nil && s.Until == nil {
			return edit{}, refusal.New("AddressBlock "+b.Name, fmt.Sprintf("spec.slots[%d]", slot), a.String(), fmt.Sprintf("an address that nobody has, for %s; node %q, claim %q has it", owner, s.Node, s.Claim))
		}
		n.occupy(b, 1<<slot)
		return edit{write: true, claimed: 1 << slot, window: 1}, nil
	})
}
