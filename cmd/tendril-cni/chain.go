package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cmd/tendril-cni/state"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

// chained serves the verbs of a plugin that changes an interface which exists.
type chained struct {
	cni.Modifier
	kind string
}

func (m chained) plugin(since string) plugin {
	fine := func(context.Context, call) error { return nil }
	return plugin{add: m.add, del: m.del, check: m.check, gc: m.gc, status: fine, since: since}
}

func (m chained) add(ctx context.Context, c call) (*current.Result, error) {
	prev, err := c.prevResult()
	if err != nil {
		return nil, err
	}
	if prev == nil {
		return nil, errNoPrevious(m.kind)
	}
	dir, err := state.Open(state.Default)
	if err != nil {
		return nil, err
	}
	if err := clear(dir, c.named(m.kind), c.layer(), func(e state.Entry) error { return m.undo(ctx, dir, e, nil) }); err != nil {
		return nil, err
	}
	ns, err := netns.Open(c.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	// Routing tables are chosen among those that are free.
	unlock, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	res, err := m.apply(ctx, dir, ns, c, prev)
	return res, errors.Join(err, unlock())
}

func (m chained) apply(ctx context.Context, dir *state.Dir, ns *os.File, c call, prev *current.Result) (*current.Result, error) {
	a, err := c.attachment(m.kind)
	if err != nil {
		return nil, err
	}
	a.Device = "" // the interface's own plugin has it
	if a.Netns, err = netns.Identify(ns); err != nil {
		return nil, err
	}
	a.Netns.Path = c.Netns
	if err := (lease{result: ownPart(prev, c.IfName)}).into(&a); err != nil {
		return nil, err
	}
	e := state.Entry{Record: cni.Record{Attachment: a, Phase: cni.Intent}, Layer: c.layer()}
	if e.Record.Prior, err = m.Prior(ctx, ns, a); err != nil {
		return nil, err
	}
	if err := dir.Put(&e); err != nil {
		return nil, err
	}
	e.Record.Link, err = m.Attach(ctx, ns, e.Record)
	if err == nil {
		e.Record.Phase = cni.Attached
		err = dir.Put(&e)
	}
	if err != nil {
		return nil, errors.Join(err, m.undo(ctx, dir, e, ns))
	}
	// tuning may have changed what the result says.
	for _, in := range prev.Interfaces {
		if in.Name == c.IfName && m.kind == "tuning" {
			in.Mac = e.Record.Link.MAC
			if in.Mtu != 0 {
				in.Mtu = e.Record.Link.MTU
			}
		}
	}
	return prev, nil
}

// ownPart is what of the chain's result is about the interface. An address that
// names no interface counts as its own.
func ownPart(prev *current.Result, ifName string) *current.Result {
	out := &current.Result{}
	for _, ip := range prev.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(prev.Interfaces) && prev.Interfaces[*i].Name != ifName {
			continue
		}
		out.IPs = append(out.IPs, ip)
	}
	return out
}

func (m chained) del(ctx context.Context, c call) error {
	dir, err := state.Open(state.Default)
	if err != nil {
		return err
	}
	a, layer := c.named(m.kind), c.layer()
	e, ok, err := dir.Get(a, layer)
	switch {
	case err != nil:
		return err
	case ok:
		return m.undo(ctx, dir, e, nil)
	}
	return errors.Join(m.delOthers(ctx, dir, a), dir.Remove(a, layer), dir.Sweep(a))
}

// delOthers undoes what the interface has of this kind by another configuration than
// that of the call: it was changed since the ADD, or this is a DEL once more.
func (m chained) delOthers(ctx context.Context, dir *state.Dir, of cni.Attachment) error {
	all, err := dir.All(m.kind)
	errs := []error{err}
	for _, e := range all {
		if a := e.Record.Attachment; a.ContainerID == of.ContainerID && a.IfName == of.IfName {
			errs = append(errs, m.undo(ctx, dir, e, nil))
		}
	}
	return errors.Join(errs...)
}

// layer is a name made of the plugin's own part of the configuration, which the
// runtime gives to DEL as it gave it to ADD: a chain may have several plugins of one
// kind, for one interface.
func (c call) layer() string {
	var own map[string]json.RawMessage
	if json.Unmarshal(c.StdinData, &own) != nil {
		return ""
	}
	for _, key := range []string{"cniVersion", "name", "prevResult", "runtimeConfig", "args"} {
		delete(own, key)
	}
	data, err := json.Marshal(own) // keys in order, without white space
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:4])
}

func (m chained) undo(ctx context.Context, dir *state.Dir, e state.Entry, ns *os.File) error {
	if !dir.Stale(e) {
		if err := inPod(e.Record, ns, func(ns *os.File) error { return m.Detach(ctx, ns, e.Record) }); err != nil {
			return err
		}
	}
	return dir.Remove(e.Record.Attachment, e.Layer)
}

func (m chained) check(ctx context.Context, c call) error {
	prev, err := c.prevResult()
	if err != nil {
		return err
	}
	if prev == nil {
		return errNoPrevious("CHECK")
	}
	ns, err := netns.Open(c.Netns)
	if err != nil {
		return err
	}
	a, err := c.attachment(m.kind)
	if err == nil {
		err = lease{result: ownPart(prev, c.IfName)}.into(&a)
	}
	if check, ok := m.Modifier.(cni.Checker); ok && err == nil {
		err = check.Check(ctx, ns, cni.Record{Attachment: a})
	}
	return errors.Join(err, ns.Close())
}

func (m chained) gc(ctx context.Context, c call) error {
	valid, err := validAttachments(c)
	if err != nil {
		return err
	}
	return collect(c.network.Name, m.kind, valid, func(dir *state.Dir, e state.Entry) error { return m.undo(ctx, dir, e, nil) })
}
