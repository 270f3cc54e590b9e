package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// undoTime bounds the undo of a failed ADD. It runs on its own clock, since the
// caller's deadline may be what failed. What it does not finish, DEL does.
const undoTime = 20 * time.Second

// Add attaches every network of the pod and returns the result of its default
// network. On error nothing of the call is left, or the journal holds what DEL
// will undo.
func (e *Engine) Add(ctx context.Context, r Request) (*current.Result, error) {
	ctx, r = e.depart(ctx, r, "ADD")
	leave, err := e.queue(ctx, r)
	if err != nil {
		return nil, r.landed(PodRef{}, err)
	}
	defer leave()
	records, err := e.add(ctx, r)
	if err != nil {
		return nil, r.landed(PodRef{}, err)
	}
	res, err := resultOf(effective(records)[0])
	return res, r.landed(records[0].Attachment.Pod, err)
}

func (e *Engine) add(ctx context.Context, r Request) ([]Record, error) {
	start := time.Now()
	if err := e.clear(ctx, r); err != nil {
		return nil, r.step(StepClear, nil, start, err)
	}
	pod := r.pod()
	if err := e.await(ctx, r); err != nil {
		e.Report.Refused(pod, inCall(ctx, err))
		return nil, err
	}
	r.Run = sparing(r.Run)
	records, plan, err := e.prepare(ctx, r)
	if err != nil {
		r.failed(r.Netns)
		e.Report.Refused(pod, inCall(ctx, err))
		return nil, err
	}
	if err = e.enter(ctx, r, records, plan); err == nil {
		err = e.attachAll(ctx, r, records, plan)
	}
	if err != nil {
		r.failed(r.Netns)
		err = errors.Join(err, e.undo(ctx, r))
		e.Report.Refused(pod, inCall(ctx, err))
		return nil, err
	}
	e.announce(pod, records)
	return records, nil
}

// clear makes room for an ADD: leftovers of an ADD that failed are undone, a
// complete one is refused, as the specification asks (ADD twice is an error).
func (e *Engine) clear(ctx context.Context, r Request) error {
	old, err := e.records(r.ContainerID, r.IfName)
	if err != nil || len(old) == 0 {
		return err
	}
	for _, rec := range old {
		if rec.Phase == Intent {
			return e.detachAll(ctx, r, old)
		}
	}
	return fmt.Errorf("add container %s: interface %s is attached already; DEL it first", r.ContainerID, r.IfName)
}

// prepare decides, and records the decision: when it returns, the journal holds
// the intent of every attachment, and nothing else was changed.
func (e *Engine) prepare(ctx context.Context, r Request) ([]Record, []Planned, error) {
	wanted, err := e.gather(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	start := time.Now()
	plan, err := Plan(wanted)
	if r.step(StepPlan, nil, start, err) != nil {
		return nil, nil, err
	}
	e.warn(ctx, wanted.Pod, plan)
	records := make([]Record, len(plan))
	for i, p := range plan {
		records[i] = Record{Attachment: p.Attachment, Order: i, Phase: Intent}
		if err := e.prior(ctx, r, &records[i]); err != nil {
			return nil, nil, fmt.Errorf("network %s: %w", p.Attachment.Network, err)
		}
	}
	return records, plan, e.intend(ctx, r, "intent", records, plan)
}

// prior notes in rec what its driver and its modifiers have to say before anything
// is recorded; nothing for a foreign network.
func (e *Engine) prior(ctx context.Context, r Request, rec *Record) error {
	if e.Drivers[rec.Attachment.Kind] == nil {
		return nil
	}
	start := time.Now()
	return r.step(StepPrior, &rec.Attachment, start, e.note(ctx, r.Netns, rec))
}

// queue waits for the call's turn on its container and returns the function that
// ends it.
func (e *Engine) queue(ctx context.Context, r Request) (func(), error) {
	start := time.Now()
	leave, err := e.locks.take(ctx, r.ContainerID)
	return leave, r.step(StepQueue, nil, start, err)
}

// await waits until the default network says that it is there.
func (e *Engine) await(ctx context.Context, r Request) error {
	if e.Await == nil {
		return nil
	}
	start := time.Now()
	return r.step(StepAwait, nil, start, e.Await(ctx))
}

func (e *Engine) warn(ctx context.Context, pod PodRef, plan []Planned) {
	to, ok := e.Report.(Warner)
	for _, p := range plan {
		for _, text := range p.Warnings {
			e.Log.WarnContext(ctx, "request may not be served", "pod", pod, "network", p.Attachment.Network, "cause", text)
			if ok {
				to.Warned(pod, text)
			}
		}
	}
}

// gather collects what the plan is made from.
func (e *Engine) gather(ctx context.Context, r Request) (w Wanted, err error) {
	w = Wanted{ContainerID: r.ContainerID, IfName: r.IfName, Pod: r.pod(), CNIArgs: cniArgs(r)}
	if w.RuntimeConfig, err = runtimeConfig(r); err != nil {
		return w, err
	}
	if w.Netns, err = e.Namespaces.Identify(r.Netns); err != nil {
		return w, fmt.Errorf("identify network namespace %s: %w", r.NetnsPath, err)
	}
	w.Netns.Path = r.NetnsPath
	if w.Pod.Name == "" { // not Kubernetes: the default network alone
		if w.Default, err = e.primary(ctx); err == nil {
			w.Filed = e.filed(w.Default)
		}
		return w, refusal.Name(err, "default network")
	}
	start := time.Now()
	pod, err := e.Cluster.Pod(ctx, w.Pod.Namespace, w.Pod.Name, w.Pod.UID)
	if r.step(StepPod, nil, start, err) != nil {
		return w, err
	}
	w.Pod, w.Ordinal = pod.PodRef, pod.Ordinal
	start = time.Now()
	err = e.networksOf(ctx, pod, &w)
	if r.step(StepDefinitions, nil, start, err) != nil || !needsDevices(append(w.Choices, w.Default)) {
		return w, err
	}
	start = time.Now()
	w.Devices, err = e.Devices.Devices(ctx, w.Pod)
	return w, r.step(StepDevices, nil, start, err)
}

// networksOf fills in the pod's default network and those that it chose.
func (e *Engine) networksOf(ctx context.Context, pod Pod, w *Wanted) (err error) {
	if w.Flat, err = e.flat(); err != nil {
		return err
	}
	if w.Default, err = e.podPrimary(ctx, pod); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	w.Filed = e.filed(w.Default)
	w.Choices, err = e.choices(ctx, pod)
	return err
}

func needsDevices(choices []Choice) bool {
	for _, c := range choices {
		if c.Definition.Resource != "" {
			return true
		}
	}
	return false
}

// reserve gives the attachment its device and its addresses in the journal. It
// returns those that were slots of the node (ipam.Lease.Slots).
func (e *Engine) reserve(tx *journal.Tx, r Request, a *Attachment, p Planned) ([]netip.Addr, error) {
	start := time.Now()
	slots, err := e.take(tx, a, p)
	return slots, r.step(StepReserve, a, start, err)
}

func (e *Engine) take(tx *journal.Tx, a *Attachment, p Planned) ([]netip.Addr, error) {
	if err := e.fit(tx, *a); err != nil {
		return nil, err
	}
	if err := hold(tx, *a); err != nil {
		return nil, err
	}
	if p.IPAM == nil || a.Filed != "" {
		return nil, nil // addresses of files come after the transaction
	}
	lease, err := ipam.Reserve(tx.Bucket(journal.Addresses), a.Config.Name, *p.IPAM, owner(*a), p.Asked)
	if err != nil {
		return nil, err
	}
	for _, l := range lease.Addresses {
		a.Addresses = append(a.Addresses, Address{Prefix: l.Prefix, Gateway: l.Gateway})
		// A claim's addresses may be with two pods at once: one migrates.
		if l.Suspect && a.Claim == "" {
			a.Suspect = append(a.Suspect, l.Prefix.Addr())
		}
	}
	a.Vouched = a.Vouched && len(a.Suspect) == 0
	a.Routes = routes(lease, a.Addresses)
	return lease.Slots, e.complete(a, lease.DNS)
}

// attachAll attaches in order and records the completion of all in one
// transaction. records are filled with what was observed.
func (e *Engine) attachAll(ctx context.Context, r Request, records []Record, plan []Planned) error {
	if err := e.attachEach(ctx, r, "intent", records, plan); err != nil {
		return err
	}
	start := time.Now()
	if err := r.step(StepSettle, nil, start, e.settle(ctx, r, records)); err != nil {
		return err
	}
	for i := range records {
		records[i].Phase = Attached
	}
	start = time.Now()
	err := e.Journal.Update("attached", func(tx *journal.Tx) error { return putAll(tx, records) })
	return r.step(StepDone, nil, start, err)
}

// attachEach attaches in order, each once its addresses are beyond doubt: an
// interface may ride on those before it, and can be probed through with them alone.
// step is the journal's, for addresses that take the place of others; without a
// plan there are no others.
func (e *Engine) attachEach(ctx context.Context, r Request, step string, records []Record, plan []Planned) error {
	for i := range records {
		if err := e.prove(ctx, r, step, records[i:i+1], plan[min(i, len(plan)):min(i+1, len(plan))]); err != nil {
			return err
		}
		if err := e.attach(ctx, r, &records[i]); err != nil {
			return fmt.Errorf("attach network %s as %s: %w", records[i].Attachment.Network, records[i].Attachment.IfName, err)
		}
		records[i].DeviceInfo = e.readInfo(records[i].Attachment)
	}
	return nil
}

func (e *Engine) attach(ctx context.Context, r Request, rec *Record) error {
	start := time.Now()
	return r.step(StepAttach, &rec.Attachment, start, e.make(ctx, r, rec))
}

// make has the driver, or the plugins, make the interface.
func (e *Engine) make(ctx context.Context, r Request, rec *Record) (err error) {
	a := rec.Attachment
	if e.Drivers[a.Kind] != nil {
		return e.attachNative(ctx, r.Netns, rec)
	}
	e.prepareInfo(a)
	rec.Result, err = e.Delegate.Add(ctx, r.Run, a)
	e.logged(ctx, "attached by plugins", a, err)
	return err
}

// logged writes a line for what an executable did; drivers write their own.
func (e *Engine) logged(ctx context.Context, what string, a Attachment, err error) {
	if err == nil {
		e.Log.InfoContext(ctx, what, "pod", a.Pod, "container", a.ContainerID, "ifname", a.IfName, "network", a.Network)
	}
}

// undo is DEL's code on what a failed ADD recorded.
func (e *Engine) undo(ctx context.Context, r Request) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	start := time.Now()
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	if err := r.step(StepUndo, nil, start, e.detachAll(ctx, r, records)); err != nil {
		return fmt.Errorf("undo (will be tried again by DEL): %w", err)
	}
	return nil
}

func (e *Engine) announce(pod PodRef, records []Record) {
	if pod.Name == "" {
		return
	}
	e.Report.Publish(records[0].Attachment.Pod, Statuses(records))
	e.Report.Added(records[0].Attachment.Pod, made(records))
}

func made(records []Record) []Made {
	out := make([]Made, len(records))
	for i, rec := range records {
		out[i] = Made{Network: rec.Attachment.Network, IfName: rec.Attachment.IfName, Addresses: observedAddresses(rec)}
	}
	return out
}

// routes fills a gateway that a route leaves out from the first address of its
// family, as the reference plugins do.
func routes(lease ipam.Lease, addrs []Address) []Route {
	var out []Route
	for _, r := range lease.Routes {
		if !r.Via.IsValid() {
			r.Via = gateway(addrs, r.Dst.Addr().Is4())
		}
		out = append(out, Route{Dst: r.Dst, Via: r.Via, MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope})
	}
	return out
}

func gateway(addrs []Address, v4 bool) netip.Addr {
	for _, a := range addrs {
		if a.Gateway.IsValid() && a.Gateway.Is4() == v4 {
			return a.Gateway
		}
	}
	return netip.Addr{}
}
