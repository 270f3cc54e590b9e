package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// Claimer has slots of the cluster's address spaces claimed for this node.
type Claimer interface {
	// Claim gets the slots that a reservation lacked, and returns when the same
	// reservation is worth making again. Errors: refusal.Refusal for what this
	// request cannot have; one that is ipam.ErrExhausted when there is none; else
	// what the API server said. ctx bounds it.
	Claim(ctx context.Context, need *ipam.NeedSlots) error
}

// claimTime bounds all claims of one call, where its own deadline is later.
const claimTime = time.Minute

// Unclaimed says that the node could not get slots that it needs. It may pass:
// CNI code 11, try again later.
type Unclaimed struct{ cause error }

// Error implements error.
func (u *Unclaimed) Error() string { return u.cause.Error() }

// Unwrap returns the cause.
func (u *Unclaimed) Unwrap() error { return u.cause }

// intend reserves what the planned attachments get and records them, in one
// transaction. Where the node lacks slots, they are claimed outside of it, and all
// of it is done again: nothing was written until then. records are filled with
// what was reserved. Where it fails nothing is left in the journal.
func (e *Engine) intend(ctx context.Context, r Request, step string, records []Record, plan []Planned) error {
	err := e.reserveOrClaim(ctx, r, step, records, plan)
	if err == nil || !slices.ContainsFunc(plan, func(p Planned) bool { return p.Attachment.Claim != "" }) {
		return err
	}
	forgotten := e.Journal.Update("ungrant", func(tx *journal.Tx) error {
		for _, p := range plan {
			if a := p.Attachment; a.Claim != "" {
				if err := ipam.Ungrant(tx.Bucket(journal.Addresses), a.Config.Name, owner(a)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if forgotten != nil {
		return errors.Join(err, forgotten)
	}
	return err
}

// reserveOrClaim is intend, which may leave what claims were found to have.
func (e *Engine) reserveOrClaim(ctx context.Context, r Request, step string, records []Record, plan []Planned) error {
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	for {
		start := time.Now()
		err := e.Journal.Update(step, func(tx *journal.Tx) error {
			if err := unclaimed(tx, records); err != nil {
				return err
			}
			if err := e.reserveAll(tx, r, records, plan); err != nil {
				return err
			}
			if err := steer(records); err != nil {
				return err
			}
			return putAll(tx, records)
		})
		_ = r.step(StepIntent, nil, start, err)
		var need *ipam.NeedSlots
		if !errors.As(err, &need) {
			return err
		}
		start = time.Now()
		if claimed := r.step(StepClaim, nil, start, e.claim(ctx, need)); claimed != nil {
			return fmt.Errorf("network %s: %w", lacking(records, need), claimed)
		}
	}
}

// reserveAll reserves for each attachment in turn. Where one needs slots, those
// that the ones before it have got in this transaction are needed again.
func (e *Engine) reserveAll(tx *journal.Tx, r Request, records []Record, plan []Planned) error {
	slots := map[string][]netip.Addr{} // by address space
	for i := range records {
		records[i].Attachment = plan[i].Attachment // without what an earlier round reserved
		got, err := e.reserve(tx, r, &records[i].Attachment, plan[i])
		var need *ipam.NeedSlots
		if errors.As(err, &need) {
			need.Beside = append(need.Beside, slots[need.Space]...)
		}
		if err != nil {
			return fmt.Errorf("network %s: %w", records[i].Attachment.Network, err)
		}
		if len(got) > 0 {
			space := plan[i].IPAM.Cluster.Space
			slots[space] = append(slots[space], got...)
		}
	}
	return nil
}

// lacking names the network of the attachment that needs slots.
func lacking(records []Record, need *ipam.NeedSlots) string {
	for _, r := range records {
		if r.Attachment.IfName == need.Owner.IfName {
			return r.Attachment.Network
		}
	}
	return need.Network
}

func (e *Engine) claim(ctx context.Context, need *ipam.NeedSlots) error {
	if e.Claim == nil {
		return refusal.New("", "ipam.type", ipam.TypeTendril+" or "+ipam.TypeWhereabouts,
			"host-local or static: this daemon has no API server, which says whose an address is")
	}
	err := e.Claim.Claim(ctx, need)
	if err == nil {
		err = ctx.Err() // slots came again and again, and were never enough
	}
	var refused *refusal.Refusal
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return &Unclaimed{err}
}

// flat is Options.Flat, where it is there.
func (e *Engine) flat() (json.RawMessage, error) {
	if e.Flat == nil {
		return nil, nil
	}
	return e.Flat()
}
