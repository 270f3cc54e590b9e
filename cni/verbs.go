package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Check compares every attachment of the call, as the journal has it, with the
// kernel: native ones by their drivers, foreign ones by their plugins' CHECK. All
// are looked at; the error says everything that is different. It changes nothing.
func (e *Engine) Check(ctx context.Context, r Request) error {
	ctx, r = e.depart(ctx, r, "CHECK")
	leave, err := e.queue(ctx, r)
	if err != nil {
		return r.landed(PodRef{}, err)
	}
	defer leave()
	return r.landed(PodRef{}, e.checkAll(ctx, r))
}

func (e *Engine) checkAll(ctx context.Context, r Request) error {
	records, err := e.records(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("check container %s: nothing is attached for interface %s", r.ContainerID, r.IfName)
	}
	ns, err := e.namespace(r, records)
	if err != nil {
		return err
	}
	if ns == nil {
		return fmt.Errorf("check container %s: its network namespace %s is gone", r.ContainerID, records[0].Attachment.Netns.Path)
	}
	if ns != r.Netns {
		defer ns.Close()
	}
	var errs []error
	for _, rec := range effective(records) {
		start := time.Now()
		if err := r.step(StepCheck, &rec.Attachment, start, e.check(ctx, r, ns, rec)); err != nil {
			errs = append(errs, fmt.Errorf("check network %s on %s: %w", rec.Attachment.Network, rec.Attachment.IfName, err))
		}
	}
	if len(errs) > 0 {
		r.failed(ns)
	}
	return errors.Join(errs...)
}

func (e *Engine) check(ctx context.Context, r Request, ns *os.File, rec Record) error {
	a := rec.Attachment
	if rec.Phase != Attached {
		return fmt.Errorf("it is not attached (%s)", rec.Phase)
	}
	if e.Drivers[a.Kind] != nil {
		return errors.Join(e.checkNative(ctx, ns, rec), e.checkFiled(rec))
	}
	verbs, ok := e.Delegate.(Verbs)
	if !ok {
		return nil
	}
	if r.Run == nil {
		return errNoRunner
	}
	return verbs.Check(ctx, r.Run, a, rec.Result)
}

// Status says whether an ADD could be served now, as far as the daemon itself
// can tell. The error has code 50 of the specification.
func (e *Engine) Status(ctx context.Context) error { return e.Available(ctx, Request{}) }

// Available says whether an ADD could be served now: the daemon and its pools are
// ready, a default network is configured, and its own plugins say so where a
// runtime waits to run them. The error has code 50 of the specification, or the
// one that a plugin gave.
func (e *Engine) Available(ctx context.Context, r Request) error {
	if err := e.Ready(); err != nil {
		return Unavailable("tendril is not ready", err)
	}
	c, err := e.primary(ctx)
	if err != nil {
		return Unavailable("no default network", err)
	}
	network, err := c.network()
	if err != nil {
		return Unavailable("no default network", err)
	}
	verbs, ok := e.Delegate.(Verbs)
	if !ok || r.Run == nil || !older(network) || e.filed(c) {
		return nil
	}
	return Unavailable("the default network is not available", verbs.Status(ctx, r.Run, network))
}

// GC detaches everything that the runtime does not list as valid, and then tells
// the plugins of every foreign network what is left. The runtime calls no other
// verb meanwhile (specification, section "GC"). Everything is tried.
func (e *Engine) GC(ctx context.Context, r Request) error {
	valid, err := ValidAttachments(r.Config)
	if err != nil {
		return err
	}
	if err := e.await(ctx, r); err != nil {
		return err
	}
	all, err := e.all()
	if err != nil {
		return err
	}
	var errs []error
	for call := range byCall(all) {
		if !slices.Contains(valid, types.GCAttachment{ContainerID: call.container, IfName: call.ifName}) {
			errs = append(errs, e.Del(ctx, Request{ContainerID: call.container, IfName: call.ifName, Path: r.Path, Run: r.Run}))
		}
	}
	return errors.Join(append(errs, e.forwardGC(ctx, r, valid))...)
}

// ValidAttachments reads the list of GC from the configuration that the runtime
// gives, under the specification's key or, where that is absent, under the one that
// libcni wrote before. null is an empty list: it is what libcni writes for a runtime
// whose list is empty, while it leaves the key out for one that has none to tell.
// Without a list the answer is a refusal.
func ValidAttachments(config []byte) ([]types.GCAttachment, error) {
	var conf struct {
		Valid  json.RawMessage `json:"cni.dev/valid-attachments"`
		Libcni json.RawMessage `json:"cni.dev/attachments"`
	}
	if err := json.Unmarshal(config, &conf); err != nil {
		return nil, fmt.Errorf("gc: decode configuration: %w", err)
	}
	list := conf.Valid
	if list == nil {
		list = conf.Libcni
	}
	if list == nil {
		// It would detach every pod of the node.
		return nil, refusal.New("network configuration", "cni.dev/valid-attachments", "", "a list, which may be empty")
	}
	var out []types.GCAttachment
	if err := json.Unmarshal(list, &out); err != nil {
		return nil, fmt.Errorf("gc: decode the list of attachments: %w", err)
	}
	return out, nil
}

// all returns every record of the journal.
func (e *Engine) all() (out []Record, err error) {
	err = e.Journal.View(func(tx *journal.Tx) (err error) {
		out, err = decodeAll(tx.All())
		return err
	})
	return out, err
}

// forwardGC tells the plugins of each foreign network which of its attachments
// are left in the journal, whoever attached them. The default network has those
// beside that the runtime lists: pods that are older than Tendril.
func (e *Engine) forwardGC(ctx context.Context, r Request, valid []types.GCAttachment) error {
	verbs, ok := e.Delegate.(Verbs)
	if !ok || r.Run == nil {
		return nil
	}
	left, err := e.all()
	if err != nil {
		return err
	}
	networks, list := map[string]netconf.Network{}, map[string][]types.GCAttachment{}
	for _, rec := range left {
		a := rec.Attachment
		if a.Kind == KindExec {
			networks[a.Config.Name] = a.Config
		}
		if a.Kind == KindExec || a.Filed != "" {
			list[a.Config.Name] = append(list[a.Config.Name], types.GCAttachment{ContainerID: a.ContainerID, IfName: a.IfName})
		}
	}
	var errs []error
	if c, err := e.primary(ctx); err == nil {
		n, err := c.network()
		if errs = append(errs, err); err == nil && older(n) {
			networks[n.Name] = n
			list[n.Name] = union(list[n.Name], valid)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		errs = append(errs, verbs.GC(ctx, r.Run, networks[name], list[name]))
	}
	return errors.Join(errs...)
}

func union(a, b []types.GCAttachment) []types.GCAttachment {
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}
