package whereabouts

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Blocks are where imported addresses go.
type Blocks interface {
	// Get reads a block by quorum unless cached is asked for; nil when there is none.
	Get(ctx context.Context, name string, cached bool) (*v1alpha1.AddressBlock, error)
	// Write creates or updates a block, on condition of its resourceVersion.
	Write(ctx context.Context, b *v1alpha1.AddressBlock) (*v1alpha1.AddressBlock, error)
}

// State is what an import makes of one allocation.
type State string

// The states of an allocation.
const (
	// Imported: the address is the pod's now, and nobody gets it while the pod is
	// there.
	Imported State = "imported"
	// Known: it was so already.
	Known State = "known"
	// Orphan: there is no such pod; whereabouts leaked the address, and it stays free.
	Orphan State = "orphan"
	// Taken: somebody else has the address here, see Found.By.
	Taken State = "taken"
)

// Found is one allocation and what became of it.
type Found struct {
	Address
	State State
	By    string
}

// importTries bounds how often a block is written whose others are first.
const importTries = 20

// Import makes the live allocations of pools the pods' own here, so that nothing
// else gets their addresses: pod returns the uid of a pod, empty for one that is not
// there. Nothing is written unless write is set; the result is the same. Repeating
// it is fine.
func Import(ctx context.Context, blocks Blocks, pod func(ctx context.Context, ref string) (uid string, err error), pools []Pool, write bool) ([]Found, error) {
	type place struct {
		space string
		cell  ipam.Cell
	}
	byBlock := map[place][]*Found{}
	var all []*Found
	for _, p := range pools {
		addresses, err := p.Addresses()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			f := &Found{Address: a}
			uid, err := pod(ctx, a.PodRef)
			if err != nil {
				return nil, err
			}
			all = append(all, f)
			if f.State, f.By = Orphan, uid; uid == "" {
				continue
			}
			at := place{a.Space, ipam.CellOf(a.Addr)}
			byBlock[at] = append(byBlock[at], f)
		}
	}
	var errs []error
	for at, found := range byBlock {
		errs = append(errs, importBlock(ctx, blocks, at.space, at.cell, found, write))
	}
	out := make([]Found, len(all))
	for i, f := range all {
		out[i] = *f
	}
	slices.SortStableFunc(out, func(a, b Found) int { return a.Addr.Compare(b.Addr) })
	return out, errors.Join(errs...)
}

// importBlock does one block. Until then By has the uids of the pods.
func importBlock(ctx context.Context, blocks Blocks, space string, cell ipam.Cell, found []*Found, write bool) error {
	uids := make([]string, len(found))
	for i, f := range found {
		uids[i] = f.By
	}
	name := v1alpha1.Name(space, cell)
	for range importTries {
		b, err := blocks.Get(ctx, name, false)
		if err != nil {
			return err
		}
		if b == nil {
			b = v1alpha1.New(space, cell)
		}
		changed := false
		for i, f := range found {
			f.State, f.By = place(b, f.Address, cell.Index(f.Addr), uids[i])
			changed = changed || f.State == Imported
		}
		if !changed || !write {
			return nil
		}
		_, err = blocks.Write(ctx, b)
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return fmt.Errorf("import into address block %s: others were first %d times", name, importTries)
}

// place puts one address into a block.
func place(b *v1alpha1.AddressBlock, a Address, slot int, uid string) (state State, by string) {
	claim := v1alpha1.PodClaim + a.PodRef
	switch s := b.At(slot); {
	case s == nil || s.Until != nil:
		b.Set(v1alpha1.Slot{Slot: slot, Claim: claim, Interface: a.IfName, UID: uid})
		return Imported, ""
	case s.Claim == claim && s.UID == uid:
		return Known, ""
	case s.Node != "":
		return Taken, "node " + s.Node
	default:
		return Taken, s.Claim
	}
}
