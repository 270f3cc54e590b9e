package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// Prober asks the wire whether addresses are in use.
type Prober interface {
	// Conflicts asks on a link of ns that is up and has none of addrs, and returns
	// those that something else has, with its hardware address. ErrUnasked says that
	// the link is none that could tell.
	Conflicts(ctx context.Context, ns *os.File, link Link, addrs []netip.Addr) (map[netip.Addr]string, error)
}

// ErrUnasked says that nobody could be asked: a link without carrier, or without
// neighbours.
var ErrUnasked = errors.New("no neighbour can be asked")

// AddressReporter is what a Reporter may also be.
type AddressReporter interface {
	// Address emits a Warning event about an address that pod has or was to have.
	Address(pod PodRef, text string)
}

// mostConflicts is how many addresses in a row may turn out to be in use before a
// call gives up (MAX_CONFLICTS of RFC 5227).
const mostConflicts = 10

// conflict is an address of an attachment that something else has.
type conflict struct {
	of   Attachment
	addr netip.Addr
	mac  string
}

// prove has the suspect addresses of an attachment that is recorded probed before
// they are used; one is a slice of it, and plan of its plan. Those that something
// else has are set aside, and the attachment gets others, by the same step of the
// journal. Without a plan, where a lost interface gets back what it had, there are no
// others, and that is an error. What cannot be probed stays suspect and is used.
func (e *Engine) prove(ctx context.Context, r Request, step string, one []Record, plan []Planned) error {
	if e.Prober == nil {
		return nil
	}
	for range mostConflicts {
		rec := &one[0]
		if len(rec.Attachment.Suspect) == 0 {
			return nil
		}
		start := time.Now()
		found, err := e.probe(ctx, r, rec)
		if r.step(StepProbe, &rec.Attachment, start, err) != nil {
			return fmt.Errorf("probe addresses of network %s: %w", rec.Attachment.Network, err)
		}
		if len(found) == 0 {
			return nil
		}
		if len(plan) == 0 {
			return &Unclaimed{fmt.Errorf("address %s of network %s is in use on the network by %s", found[0].addr, rec.Attachment.Network, found[0].mac)}
		}
		if err := e.setAside(found); err != nil {
			return err
		}
		if err := e.intend(ctx, r, step, one, plan); err != nil {
			return err
		}
	}
	return &Unclaimed{fmt.Errorf("%d addresses in a row are in use by something else on the network", mostConflicts)}
}

// probe makes the interface without its addresses, asks, and removes it again.
func (e *Engine) probe(ctx context.Context, r Request, rec *Record) ([]conflict, error) {
	suspects, driver := rec.Attachment.Suspect, e.Drivers[rec.Attachment.Kind]
	if driver == nil {
		return nil, nil
	}
	bare := *rec
	bare.Attachment.Addresses, bare.Attachment.Routes, bare.Attachment.Gateways = nil, nil, nil
	link, err := driver.Attach(ctx, r.Netns, bare)
	if err != nil {
		return nil, err
	}
	bare.Link = link
	taken, err := e.Prober.Conflicts(ctx, r.Netns, link, suspects)
	unasked := errors.Is(err, ErrUnasked)
	if unasked {
		e.Log.Warn("addresses in doubt are used without a probe", "pod", rec.Attachment.Pod, "network", rec.Attachment.Network, "addresses", suspects, "cause", err)
		err = nil
	}
	if err = errors.Join(err, driver.Detach(ctx, r.Netns, bare)); err != nil || unasked {
		return nil, err
	}
	var found []conflict
	for a, mac := range taken {
		found = append(found, conflict{rec.Attachment, a, mac})
	}
	if len(found) > 0 {
		return found, nil
	}
	rec.Attachment.Suspect, rec.Attachment.Vouched = nil, true
	return nil, e.Journal.Update("proved", func(tx *journal.Tx) error {
		return ipam.Proved(tx.Bucket(journal.Addresses), rec.Attachment.Config.Name, owner(rec.Attachment))
	})
}

// setAside takes the addresses out of use, and tells.
func (e *Engine) setAside(found []conflict) error {
	err := e.Journal.Update("conflict", func(tx *journal.Tx) error {
		for _, c := range found {
			if err := ipam.SetAside(tx.Bucket(journal.Addresses), c.of.Config.Name, owner(c.of), c.addr); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range found {
		e.Log.Warn("address is in use by something else: set aside", "pod", c.of.Pod, "network", c.of.Network, "address", c.addr, "mac", c.mac)
		if to, ok := e.Report.(AddressReporter); ok {
			to.Address(c.of.Pod, fmt.Sprintf("address %s of network %s is in use on the network by %s: it is set aside, and the pod gets another", c.addr, c.of.Network, c.mac))
		}
	}
	return nil
}
