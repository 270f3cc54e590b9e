package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// Plugging is the phase of an attachment that is being made to a pod that runs.
// Unlike Intent it says nothing about the other attachments of the same ADD: what
// is undone after a crash is this attachment alone.
const Plugging Phase = "plugging"

// Repairing is the phase of a lost attachment that no annotation asks for, the
// default network's among them, from the moment at which it is made anew. Like
// Plugging it is about this attachment alone; but nothing would attach it again once
// its record is gone, so that its undo keeps the record, and the next audit tries
// again.
const Repairing Phase = "repairing"

// Plugged is what a Reporter may also be: it tells what became of networks while
// their pod runs.
type Plugged interface {
	// Removed emits the Normal event RemovedInterface.
	Removed(pod PodRef, network, ifName string)
	// NotRemoved emits the Warning event FailedRemovingInterface.
	NotRemoved(pod PodRef, err error)
	// Missing emits a Warning event about an interface that a running pod asks for
	// and did not have, or does not have.
	Missing(pod PodRef, text string)
}

// Plug makes the networks of a running pod what its annotation asks for now: what
// the pod does not ask for any more is detached, what is new is attached, an
// element that changed is replaced, and everything else is left alone. Nothing is
// touched unless all of it can be planned. A pod without a sandbox has nothing to
// be done; one whose ADD is under way gets it from the ADD, or from the next Plug.
//
// The error is a refusal.Refusal when trying again is of no use before something
// changes; after any error the pod has what it had, less what was to go, and the
// journal has all of it. run serves networks of foreign plugins.
func (e *Engine) Plug(ctx context.Context, pod Pod, run Runner) error {
	all, err := e.all()
	if err != nil {
		return err
	}
	var errs []error
	for call, records := range byCall(all) {
		if records[0].Attachment.Pod == pod.PodRef && e.differs(pod, records) {
			errs = append(errs, e.plugCall(ctx, pod, Request{ContainerID: call.container, IfName: call.ifName, Run: run}))
		}
	}
	return errors.Join(errs...)
}

// differs is the cheap question before the exact one: it parses the annotation
// and looks at nothing else.
func (e *Engine) differs(pod Pod, records []Record) bool {
	elements, err := netconf.ParseSelections(pod.Annotations[networksAnnotation], pod.Namespace)
	if err != nil {
		return true
	}
	wanted := make([]Choice, len(elements))
	for i, el := range elements {
		wanted[i] = Choice{Element: el, Asked: true}
	}
	c := compare(records, wanted, e.node().Gives)
	return len(c.add) > 0 || len(c.gone) > 0 || c.moved
}

// plugCall does Plug for one ADD of the pod.
func (e *Engine) plugCall(ctx context.Context, pod Pod, r Request) error {
	ctx, r = e.departFor(ctx, r, VerbPlug, pod.PodRef)
	r.Run = sparing(r.Run)
	leave, err := e.queue(ctx, r)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	defer leave()
	return r.landed(PodRef{}, e.plugHere(ctx, pod, r))
}

// plugHere is plugCall once it is the call's turn.
func (e *Engine) plugHere(ctx context.Context, pod Pod, r Request) error {
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil || len(records) == 0 || slices.ContainsFunc(records, func(rec Record) bool { return rec.Phase == Intent }) {
		return err
	}
	if r.Netns, err = e.namespace(r, records); err != nil || r.Netns == nil {
		return err // a sandbox that ended: its DEL is to come
	}
	defer r.Netns.Close()
	err = e.replug(ctx, pod, r, records)
	if err != nil && !NeedsRuntime(err) {
		r.failed(r.Netns)
		e.Report.Refused(pod.PodRef, inCall(ctx, err))
	}
	return err
}

// replug plans, detaches, attaches, and tells.
func (e *Engine) replug(ctx context.Context, pod Pod, r Request, records []Record) error {
	choices, err := e.choices(ctx, pod)
	if err != nil {
		return err
	}
	c := compare(records, choices, e.node().Gives)
	start := time.Now()
	planned, err := e.planMore(ctx, pod, r, c)
	if r.step(StepPlan, nil, start, err) != nil {
		return err
	}
	if r.Run == nil && e.foreign(c.gone, planned) {
		return errNoRunner // before anything is touched
	}
	if err := e.unplug(ctx, pod.PodRef, r, c.gone); err != nil {
		return err
	}
	added, err := e.prepareMore(ctx, r, c, planned)
	if err == nil {
		err = e.attachMore(ctx, r, c, added, planned)
	}
	if err != nil && len(c.gone) > 0 {
		return errors.Join(err, e.tell(pod.PodRef, r, nil)) // what went is gone
	}
	if err != nil {
		return err
	}
	return e.tell(pod.PodRef, r, added)
}

// foreign says whether plugins have to run.
func (e *Engine) foreign(gone []Record, planned []Planned) bool {
	return slices.ContainsFunc(gone, func(r Record) bool { return e.Drivers[r.Attachment.Kind] == nil }) ||
		slices.ContainsFunc(planned, func(p Planned) bool { return e.Drivers[p.Attachment.Kind] == nil })
}

// unplug detaches what the pod does not ask for any more.
func (e *Engine) unplug(ctx context.Context, pod PodRef, r Request, gone []Record) error {
	if len(gone) == 0 {
		return nil
	}
	err := e.detachAll(ctx, r, gone)
	report, ok := e.Report.(Plugged)
	switch {
	case err != nil && ok:
		report.NotRemoved(pod, err)
	case ok:
		for _, rec := range gone {
			report.Removed(pod, rec.Attachment.Network, rec.Attachment.IfName)
		}
	}
	return err
}

// attachMore attaches what was prepared by plan, or undoes all of it.
func (e *Engine) attachMore(ctx context.Context, r Request, c comparison, added []Record, plan []Planned) error {
	err := e.attachPlugged(ctx, r, c, added, plan)
	if err == nil {
		return nil
	}
	r.failed(r.Netns)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	start := time.Now()
	if undo := r.step(StepUndo, nil, start, e.takeBack(ctx, r, added)); undo != nil {
		err = errors.Join(err, fmt.Errorf("undo (will be tried again): %w", undo))
	}
	return err
}

// takeBack undoes what could not be attached. What was there before and stays
// asked for keeps its record.
func (e *Engine) takeBack(ctx context.Context, r Request, added []Record) error {
	if len(added) == 1 && added[0].Phase == Repairing {
		return e.detach(ctx, r, r.Netns, added[0])
	}
	return e.detachAll(ctx, r, added)
}

func (e *Engine) attachPlugged(ctx context.Context, r Request, c comparison, added []Record, plan []Planned) error {
	if err := e.attachEach(ctx, r, "plugging", added, plan); err != nil {
		return err
	}
	start := time.Now()
	if err := r.step(StepSettle, nil, start, e.settle(ctx, r, added, append(slices.Clone(c.kept), c.first)...)); err != nil {
		return err
	}
	for i := range added {
		added[i].Phase = Attached
	}
	start = time.Now()
	return r.step(StepDone, nil, start, e.Journal.Update("plugged", func(tx *journal.Tx) error {
		return putAll(tx, append(slices.Clone(added), c.kept...))
	}))
}

// tell publishes the status of the whole pod, in the order of its annotation, and
// an event for each network that came.
func (e *Engine) tell(pod PodRef, r Request, added []Record) error {
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	e.Report.Publish(pod, Statuses(records))
	if len(added) > 0 {
		e.Report.Added(pod, made(added))
	}
	return nil
}

// undoPlugging detaches, after a crash, what was being attached to pods that run,
// and that alone. What cannot be detached now keeps its record; the next Plug, or
// DEL, tries again.
func (e *Engine) undoPlugging(ctx context.Context, all []Record) error {
	for call, records := range byCall(all) {
		half := filter(records, func(r Record) bool { return r.Phase == Plugging })
		if len(half) == 0 || len(half) == len(records) {
			continue
		}
		ctx, r := e.departFor(ctx, Request{ContainerID: call.container, IfName: call.ifName}, VerbRecover, records[0].Attachment.Pod)
		err := r.landed(PodRef{}, e.detachAll(ctx, r, half))
		if err != nil && !errors.Is(err, errNoRunner) {
			e.Log.WarnContext(ctx, "an unfinished attach to a running pod could not be undone yet", "container", call.container, "error", err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("undo unfinished attaches: %w", ctx.Err())
		}
	}
	return nil
}

// ofPod is CNI_ARGS of a sandbox without what was asked for its default network.
func ofPod(args string) string {
	pairs := strings.Split(args, ";")
	pairs = slices.DeleteFunc(pairs, func(p string) bool {
		return strings.HasPrefix(p, "MAC=") || strings.HasPrefix(p, "IP=")
	})
	return strings.Join(pairs, ";")
}
