package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Auditor compares what the journal says with the node's pods and the kernel, and
// mends what differs. It is level-triggered: what it missed once it sees the next
// time. All fields are required.
type Auditor struct {
	Engine *Engine
	// Lost says whether the interface of r, an attached record of a native kind,
	// is gone from ns and can be made anew: not one that somebody moved on, nor a
	// device that another driver has by now. It changes nothing.
	Lost func(ns *os.File, r Record) (bool, error)
	// Owed is told of calls that no runtime will undo any more and that need one:
	// foreign networks of sandboxes that are gone.
	Owed func(Request) error
}

// Audit does, for the pods that the node has now:
//
//   - records whose pod and network namespace are both gone are detached; those
//     of foreign plugins are handed to Owed;
//   - an interface of a running pod that is lost is made anew, with the addresses
//     it had, and reported either way;
//   - a running pod whose annotation asks for something else than it has is
//     plugged.
//
// It returns the pods that ask for networks and of which the journal knows
// nothing: they are about to start, or run single-homed. Everything is tried and
// the errors are joined. run serves networks of foreign plugins.
func (u *Auditor) Audit(ctx context.Context, pods []Pod, run Runner) (unknown []Pod, err error) {
	all, err := u.Engine.all()
	if err != nil {
		return nil, err
	}
	byRef := map[PodRef]Pod{}
	for _, p := range pods {
		byRef[p.PodRef] = p
	}
	known := map[PodRef]bool{}
	var errs []error
	for call, records := range byCall(all) {
		ref := records[0].Attachment.Pod
		known[ref] = true
		pod, exists := byRef[ref]
		if ref.Name == "" {
			continue // not of Kubernetes: its runtime is the only one that knows
		}
		if err := u.call(ctx, pod, exists, call, records, run); err != nil {
			errs = append(errs, fmt.Errorf("audit pod %s: %w", ref, err))
		}
		if ctx.Err() != nil {
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
	}
	for _, p := range pods {
		if !known[p.PodRef] && p.Annotations[networksAnnotation] != "" {
			unknown = append(unknown, p)
		}
	}
	return unknown, errors.Join(errs...)
}

func (u *Auditor) call(ctx context.Context, pod Pod, exists bool, call callKey, records []Record, run Runner) error {
	e := u.Engine
	r := Request{ContainerID: call.container, IfName: call.ifName}
	ns, err := e.namespace(r, records)
	if err != nil {
		return err
	}
	if ns == nil {
		if exists {
			return nil // a sandbox that ended: the runtime's DEL is to come
		}
		return u.orphan(ctx, r)
	}
	defer ns.Close()
	if !exists {
		return nil // being deleted: the runtime's DEL is to come
	}
	var errs []error
	for _, rec := range records {
		errs = append(errs, u.look(ctx, r, ns, rec))
	}
	if err := errors.Join(errs...); err != nil || !e.differs(pod, records) {
		return err
	}
	return e.Plug(ctx, pod, run)
}

// orphan detaches what a sandbox left that nobody will DEL: its pod does not
// exist, nor its namespace.
func (u *Auditor) orphan(ctx context.Context, r Request) error {
	err := u.Engine.Redeem(ctx, r)
	if NeedsRuntime(err) {
		return u.Owed(r)
	}
	if err == nil {
		u.Engine.Log.Info("detached what a pod that is gone had left", "container", r.ContainerID)
	}
	return err
}

// look makes an interface anew that is lost.
func (u *Auditor) look(ctx context.Context, r Request, ns *os.File, rec Record) error {
	e := u.Engine
	if e.Drivers[rec.Attachment.Kind] == nil || rec.Phase != Attached && rec.Phase != Repairing {
		return nil
	}
	if rec.Phase == Attached {
		if lost, err := u.Lost(ns, rec); err != nil || !lost {
			return err
		}
	}
	a := rec.Attachment
	err := e.repair(ctx, r, ns, rec)
	text := fmt.Sprintf("interface %s of network %s was lost; it is made anew", a.IfName, a.Network)
	if err != nil {
		text = fmt.Sprintf("interface %s of network %s is lost and could not be made anew: %v", a.IfName, a.Network, err)
	}
	e.Log.Warn("interface of a running pod was lost", "pod", a.Pod, "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "repaired", err == nil)
	if report, ok := e.Report.(Plugged); ok {
		report.Missing(a.Pod, text)
	}
	return err
}

// repair detaches the rest of a lost interface and attaches it again from its own
// record: same device, same addresses, same name. Where that fails, or the daemon
// is killed in between, the next audit attaches what the annotation asks for as if
// it were new; the rest keeps its record, and is repaired again.
func (e *Engine) repair(ctx context.Context, r Request, ns *os.File, seen Record) error {
	ctx, r = e.departFor(ctx, r, VerbRepair, seen.Attachment.Pod)
	leave, err := e.queue(ctx, r)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	defer leave()
	return r.landed(PodRef{}, e.replace(ctx, r, ns, seen))
}

// replace is repair once it is the call's turn.
func (e *Engine) replace(ctx context.Context, r Request, ns *os.File, seen Record) error {
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(rec Record) bool {
		return rec.Attachment.IfName == seen.Attachment.IfName && rec.Phase == seen.Phase && rec.Link == seen.Link
	})
	if i < 0 {
		return nil // it was detached, or replaced, since it was looked at
	}
	rec := records[i]
	if err := e.detach(ctx, r, ns, rec); err != nil {
		return err
	}
	r.Netns = ns
	if err := e.prior(ctx, r, &rec); err != nil {
		return err
	}
	rec.Phase = Plugging
	if a := rec.Attachment; a.Default || a.Selection == nil || rec.Imported && e.node().Gives(a.Network) {
		rec.Phase = Repairing // no Plug would attach it
	}
	if err := e.Journal.Update("repairing", func(tx *journal.Tx) error { return put(tx, rec) }); err != nil {
		return err
	}
	if err := e.attachMore(ctx, r, comparison{kept: slices.Delete(slices.Clone(records), i, i+1)}, []Record{rec}, nil); err != nil {
		return err
	}
	return e.tell(rec.Attachment.Pod, r, nil)
}
