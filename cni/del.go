package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Del detaches everything that the ADD with the same container and interface
// name made. It looks at the journal alone; what is absent is done. On error
// the journal keeps what is left, and the runtime calls again.
func (e *Engine) Del(ctx context.Context, r Request) error {
	ctx, r = e.depart(ctx, r, "DEL")
	leave, err := e.queue(ctx, r)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	defer leave()
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	if len(records) == 0 {
		return r.landed(PodRef{}, e.delUnknown(ctx, r))
	}
	return r.landed(records[0].Attachment.Pod, e.detachAll(ctx, r, records))
}

// delUnknown serves a DEL for a container that the journal does not know: most
// often a repeated one; but it may be a pod that was started before Tendril was
// installed, whose default network still holds an address.
func (e *Engine) delUnknown(ctx context.Context, r Request) error {
	if r.Run == nil || e.gone.has(r.ContainerID) {
		return nil
	}
	c, err := e.primary(ctx)
	if err != nil {
		e.Log.WarnContext(ctx, "container unknown and no default network configured: nothing to detach", "container", r.ContainerID, "error", err)
		return nil
	}
	a, owed, err := e.unknown(r, c)
	if err != nil || !owed {
		return err // without a record there is nothing of ours
	}
	if err := e.Delegate.Del(ctx, r.Run, a, nil); err != nil {
		return fmt.Errorf("detach default network %s of unknown container %s: %w", a.Config.Name, r.ContainerID, err)
	}
	e.gone.add(r.ContainerID)
	return nil
}

// detachAll is the only undo (invariant 2): reverse order, everything tried,
// errors joined. The records whose detach succeeded go in one transaction.
func (e *Engine) detachAll(ctx context.Context, r Request, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	var done []Record
	var left []failed
	var errs []error
	ns, err := e.namespace(r, records)
	if err != nil {
		return err
	}
	if ns != nil && ns != r.Netns {
		defer ns.Close()
	}
	e.sweep(ctx, r, ns, records)
	for _, rec := range slices.Backward(records) {
		if err := e.remove(ctx, r, ns, rec); err != nil && e.quarantines(rec) {
			left = append(left, failed{rec, err})
		} else if err != nil {
			errs = append(errs, fmt.Errorf("detach network %s from %s: %w", rec.Attachment.Network, rec.Attachment.IfName, err))
			continue
		}
		done = append(done, rec)
	}
	if len(errs) > 0 {
		r.failed(ns)
	}
	if len(done) > 0 {
		start := time.Now()
		errs = append(errs, r.step(StepForget, nil, start, e.forget(done, left)))
	}
	if len(done) == len(records) {
		e.gone.add(r.ContainerID)
	}
	return errors.Join(errs...)
}

// forget drops the records of what is detached, in one transaction with the
// quarantine of the devices among them that are not at their baseline.
func (e *Engine) forget(done []Record, left []failed) error {
	err := e.Journal.Update("detached", func(tx *journal.Tx) error {
		for _, rec := range done {
			if err := drop(tx, rec); err != nil {
				return err
			}
		}
		return e.admit(tx, left)
	})
	if err == nil {
		for _, f := range left {
			e.Quarantine.Noticed(f.Record, f.cause)
		}
	}
	return err
}

// remove detaches, and frees the addresses that the journal does not hold.
func (e *Engine) remove(ctx context.Context, r Request, ns *os.File, rec Record) error {
	if ns == nil {
		rec.Attachment.Netns.Path = "" // plugins find nothing there, or another pod's
	}
	if err := e.detach(ctx, r, ns, rec); err != nil {
		return err
	}
	return e.leave(ctx, r, rec)
}

func (e *Engine) detach(ctx context.Context, r Request, ns *os.File, rec Record) error {
	start := time.Now()
	return r.step(StepDetach, &rec.Attachment, start, e.unmake(ctx, r, ns, rec))
}

// unmake has the driver, or the plugins, remove the interface.
func (e *Engine) unmake(ctx context.Context, r Request, ns *os.File, rec Record) error {
	a := rec.Attachment
	if e.Drivers[a.Kind] != nil {
		if err := e.detachNative(ctx, ns, rec); err != nil {
			return err
		}
		return e.restore(ctx, ns, rec)
	}
	if r.Run == nil {
		return errNoRunner
	}
	err := e.Delegate.Del(ctx, r.Run, a, rec.Result)
	e.logged(ctx, "detached by plugins", a, err)
	if err != nil {
		return err
	}
	return errors.Join(e.restore(ctx, ns, rec), e.removeInfo(a))
}

// sweep takes a shortcut for what many records have in common. Whatever becomes
// of it, each record is detached on its own afterwards. Interfaces that something
// has to be taken from first are not swept.
func (e *Engine) sweep(ctx context.Context, r Request, ns *os.File, records []Record) {
	records = filter(slices.Clone(records), Record.plain)
	if e.Sweep == nil || len(records) < 2 {
		return
	}
	start := time.Now()
	if err := r.step(StepSweep, nil, start, e.Sweep(ctx, ns, records, e.Log)); err != nil {
		e.Log.WarnContext(ctx, "links of a pod not removed at once; each is removed on its own", "container", records[0].Attachment.ContainerID, "error", err)
	}
}

// errNoRunner: a foreign network can only be undone while a runtime waits for
// an answer. Its record stays for the DEL that follows.
var errNoRunner = errors.New("its plugin runs only in a call of the container runtime; kept for DEL")

// namespace returns the network namespace that the records are about, nil when
// it is gone. The one that the runtime handed over is used only if it is the
// same namespace: after a reboot or a re-used path it may be another pod's.
func (e *Engine) namespace(r Request, records []Record) (*os.File, error) {
	want := records[0].Attachment.Netns
	if r.Netns != nil {
		if same, err := e.same(r.Netns, want); err != nil || same {
			return r.Netns, err
		}
	}
	f, err := e.Namespaces.Open(want.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", want.Path, err)
	}
	same, err := e.same(f, want)
	if err != nil || !same {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (e *Engine) same(f *os.File, want Netns) (bool, error) {
	got, err := e.Namespaces.Identify(f)
	return got.Device == want.Device && got.Inode == want.Inode, err
}
