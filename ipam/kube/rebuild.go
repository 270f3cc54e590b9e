package kube

import (
	"context"
	"errors"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Rebuild finds the slots of a node whose journal is lost, and adopts them: they
// cool down, are probed before use, and go back in time. It lists every block and
// is for that one case, when the daemon starts with an empty journal; a ledger
// that has records needs no such look.
func (n *Node) Rebuild(ctx context.Context) error {
	return n.blocks.List(ctx, func(b *v1alpha1.AddressBlock) error {
		space, cell, ok := b.Parse()
		if mine, _ := b.Of(n.Name, ""); !ok || mine == 0 {
			return nil
		}
		return n.change(ctx, place{space, cell}, brief, func(*v1alpha1.AddressBlock) (edit, error) { return edit{}, nil })
	})
}

// Quit gives every slot back that no attachment holds, cooling ones too, since this
// node hands out no more: for a node that Tendril is taken off. Everything is tried.
func (n *Node) Quit(ctx context.Context) error {
	all, err := n.holdings()
	errs := []error{err}
	for p, h := range all {
		errs = append(errs, n.update("quit", func(l *ipam.Ledger) { l.Thaw(p.space, p.cell, h.Cooling) }))
		errs = append(errs, n.giveBack(ctx, p, h.Idle, 0))
	}
	return errors.Join(errs...)
}
