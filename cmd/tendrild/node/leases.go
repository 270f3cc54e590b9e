package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/dhcp"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
)

// leases implements cni.Leases: the DHCP leases of the node's pods, kept by a
// dhcp.Keeper and stored in the journal.
type leases struct {
	keeper *dhcp.Keeper
	log    *slog.Logger
}

func newLeases(j *journal.Journal, log *slog.Logger) leases {
	return leases{keeper: dhcp.NewKeeper(leaseStore{j}, log), log: log}
}

// leaseRequest is what the attachment asks servers for.
func leaseRequest(a cni.Attachment) (dhcp.Request, error) {
	p, err := a.Config.First()
	if err != nil {
		return dhcp.Request{}, err
	}
	raw, _, err := netconf.ParseIPAM(p)
	if err != nil {
		return dhcp.Request{}, err
	}
	r, err := dhcp.Parse(raw, netconf.Args(a.CNIArgs))
	r.ClientID, r.IfName = clientID(a), a.IfName
	return r, err
}

func clientID(a cni.Attachment) string { return dhcp.ClientID(a.ContainerID, a.Config.Name, a.IfName) }

// Fit implements cni.Leases.
func (l leases) Fit(a cni.Attachment) error {
	_, err := leaseRequest(a)
	return err
}

// Acquire implements cni.Leases.
func (l leases) Acquire(ctx context.Context, ns *os.File, r cni.Record) (cni.Attachment, error) {
	a := r.Attachment
	request, err := leaseRequest(a)
	if err != nil {
		return a, err
	}
	lease, err := l.keeper.Acquire(ctx, ns, a.ContainerID, a.Netns.Path, request)
	if err != nil {
		return a, err
	}
	a.Addresses, a.Routes = []cni.Address{lease.Address}, lease.Routes
	conn, err := netns.Dial(ns)
	if err != nil {
		return a, err
	}
	_, err = conn.Configure(ctx, r.Link.Index, netns.Setup{Addresses: a.Addresses, Routes: a.Routes, Up: true})
	return a, errors.Join(err, conn.Close())
}

// Release implements cni.Leases.
func (l leases) Release(_ context.Context, ns *os.File, r cni.Record) error {
	return l.keeper.Drop(ns, clientID(r.Attachment))
}

// resume goes on with the leases of an earlier daemon. One whose pod is gone needs
// nothing more; it runs before the recovery, which may give leases back.
func (l leases) resume(j *journal.Journal, records []cni.Record) error {
	of := map[string]cni.Attachment{}
	for _, r := range records {
		of[clientID(r.Attachment)] = r.Attachment
	}
	stored, err := leaseStore{j}.all()
	if err != nil {
		return err
	}
	for _, kept := range stored {
		if err := l.goOn(kept, of[kept.Request.ClientID]); err != nil {
			return err
		}
	}
	return nil
}

func (l leases) goOn(kept dhcp.Kept, a cni.Attachment) error {
	ns, err := netns.Reopen(a.Netns)
	if errors.Is(err, netns.ErrGone) {
		l.log.Info("lease of a pod that is gone forgotten", "client", kept.Request.ClientID, "address", kept.Lease.Address.Prefix.String())
		return l.keeper.Drop(nil, kept.Request.ClientID)
	}
	if err != nil {
		return err
	}
	return errors.Join(l.keeper.Keep(ns, kept), ns.Close())
}

// leaseStore implements dhcp.Store.
type leaseStore struct{ journal *journal.Journal }

// Save implements dhcp.Store.
func (s leaseStore) Save(k dhcp.Kept) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	return s.journal.Update("lease", func(tx *journal.Tx) error {
		return tx.Bucket(journal.Leases).Put([]byte(k.Request.ClientID), data)
	})
}

// Forget implements dhcp.Store.
func (s leaseStore) Forget(clientID string) error {
	return s.journal.Update("no lease", func(tx *journal.Tx) error {
		return tx.Bucket(journal.Leases).Delete([]byte(clientID))
	})
}

func (s leaseStore) all() (out []dhcp.Kept, err error) {
	err = s.journal.View(func(tx *journal.Tx) error {
		return tx.Bucket(journal.Leases).ForEach(func(k, v []byte) error {
			var kept dhcp.Kept
			if err := json.Unmarshal(v, &kept); err != nil {
				return fmt.Errorf("decode lease %s: %w", k, err)
			}
			out = append(out, kept)
			return nil
		})
	})
	return out, err
}
