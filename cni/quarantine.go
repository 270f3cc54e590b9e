package cni

import (
	"context"
	"fmt"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Quarantine keeps devices that could not be brought back to their baseline when
// their pod went. It tries on in the background; until it succeeds nobody gets
// the device, and the pod's deletion does not wait for it (invariant 4).
type Quarantine interface {
	// Entry is what the journal stores of r's device, which cause keeps from its
	// baseline: a key and a value of the bucket journal.VFs.
	Entry(r Record, cause error) (key, value []byte, err error)
	// Key is the key that Entry gives for device.
	Key(device string) []byte
	// Noticed is told once an entry is stored.
	Noticed(r Record, cause error)
}

// failed is a record whose device goes into quarantine, and why.
type failed struct {
	Record
	cause error
}

// quarantines reports whether r's device can be left to the quarantine, which
// knows VFs alone.
func (e *Engine) quarantines(r Record) bool {
	return e.Quarantine != nil && r.Attachment.Device != "" && r.Attachment.Kind == KindSriov && e.Drivers[KindSriov] != nil
}

// admit stores the entries of devices whose records go in the same transaction.
func (e *Engine) admit(tx *journal.Tx, patients []failed) error {
	for _, p := range patients {
		key, value, err := e.Quarantine.Entry(p.Record, p.cause)
		if err != nil {
			return fmt.Errorf("put device %s into quarantine: %w", p.Attachment.Device, err)
		}
		if err := tx.Bucket(journal.VFs).Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// fit refuses a device that is in quarantine.
func (e *Engine) fit(tx *journal.Tx, a Attachment) error {
	if e.Quarantine == nil || a.Device == "" || tx.Bucket(journal.VFs).Get(e.Quarantine.Key(a.Device)) == nil {
		return nil
	}
	return &InUse{Device: a.Device, Holder: "the quarantine: it is not back at its baseline yet"}
}

// Records returns every record of the journal.
func (e *Engine) Records() ([]Record, error) {
	var all []Record
	err := e.Journal.View(func(tx *journal.Tx) (err error) {
		all, err = decodeAll(tx.All())
		return err
	})
	return all, err
}

// GiveBack puts the device of r in order while its pod's namespace is gone and
// its DEL has not come yet. The record stays for that DEL.
func (e *Engine) GiveBack(ctx context.Context, r Record) error {
	leave, err := e.locks.take(ctx, r.Attachment.ContainerID)
	if err != nil {
		return err
	}
	defer leave()
	now, err := e.records(r.Attachment.ContainerID, r.Attachment.Call)
	if err != nil {
		return err
	}
	for _, rec := range now {
		if rec.Attachment.IfName == r.Attachment.IfName && rec.Attachment.Device == r.Attachment.Device {
			return e.Drivers[rec.Attachment.Kind].Detach(ctx, nil, rec)
		}
	}
	return nil // its DEL came meanwhile
}
