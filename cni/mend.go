package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Mend has mend bring the interface of an attached record back to what it was,
// under the sandbox' lock, and records what it returns. seen is the record as it
// was when somebody found out; one that was detached or replaced since is left
// alone. The Driver that mend gets makes and removes the interface with all that
// its chain adds to it.
//
// A daemon that dies in between leaves the record as it was: the interface that
// was made carries the attachment's mark, so that DEL finds it, and whoever
// watches finds out again.
func (e *Engine) Mend(ctx context.Context, seen Record, mend func(ctx context.Context, ns *os.File, d Driver, r Record) (Record, error)) error {
	a := seen.Attachment
	leave, err := e.locks.take(ctx, a.ContainerID)
	if err != nil {
		return err
	}
	defer leave()
	records, err := e.records(a.ContainerID, a.Call)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(r Record) bool {
		return r.Attachment.IfName == a.IfName && r.Phase == Attached && r.Link == seen.Link
	})
	if i < 0 || e.Drivers[a.Kind] == nil {
		return nil
	}
	ns, err := e.namespace(Request{}, records)
	if err != nil || ns == nil {
		return err // its DEL is to come
	}
	defer ns.Close()
	driver := chained{e, new(records[i].Attachment)}
	again, err := mend(ctx, ns, driver, records[i])
	if err != nil {
		return fmt.Errorf("mend %s of pod %s: %w", a.IfName, a.Pod, err)
	}
	if a.Leased {
		last := driver.last
		again.Attachment.Addresses, again.Attachment.Routes, again.Attachment.DNS = last.Addresses, last.Routes, last.DNS
	}
	// The interface came with its network's own default route, or without the one
	// that it provides.
	if err := e.settle(ctx, Request{Netns: ns}, nil, records...); err != nil {
		return fmt.Errorf("mend %s of pod %s: %w", a.IfName, a.Pod, err)
	}
	if err := e.Journal.Update("mended", func(tx *journal.Tx) error { return put(tx, again) }); err != nil || !a.Leased || a.Pod.Name == "" {
		return err
	}
	return e.tell(a.Pod, Request{ContainerID: a.ContainerID, IfName: a.Call}, nil)
}

// chained is an Engine's native attachments, chains and all, as one Driver.
type chained struct {
	e *Engine
	// last is the attachment that was made last, with its lease.
	last *Attachment
}

// Prior implements Driver; the notes of the chain are those that the record has.
func (c chained) Prior(ctx context.Context, a Attachment) (json.RawMessage, error) {
	return c.e.Drivers[a.Kind].Prior(ctx, a)
}

// Attach implements Driver.
func (c chained) Attach(ctx context.Context, ns *os.File, r Record) (Link, error) {
	err := c.e.attachNative(ctx, ns, &r)
	*c.last = r.Attachment
	return r.Link, err
}

// Detach implements Driver.
func (c chained) Detach(ctx context.Context, ns *os.File, r Record) error {
	return c.e.detachNative(ctx, ns, r)
}
