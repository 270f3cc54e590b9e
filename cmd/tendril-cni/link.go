package main

import (
	"context"
	"errors"
	"os"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cmd/tendril-cni/state"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// driver serves the verbs of a kind of link through its cni.Driver.
type driver struct {
	cni.Driver
	kind string
	// hold: the device belongs to one attachment.
	hold bool
	// chained: the master, and the addresses where there is no ipam, may come
	// from an earlier plugin.
	chained bool
	// probe: Prior tells STATUS whether an ADD could be served.
	probe bool
	// ipamDNS: the ipam's DNS counts where the configuration has none.
	ipamDNS bool
	// complete adds what the kind makes of the leased addresses.
	complete func(cni.Attachment) (cni.Attachment, error)
	// host returns the links on the host that the result names first.
	host func(cni.Record) ([]cni.Link, error)
}

func (d driver) plugin() plugin {
	return plugin{add: d.add, del: d.del, check: d.check, status: d.status, gc: d.gc, since: oldest}
}

func (d driver) add(ctx context.Context, c call) (*current.Result, error) {
	dir, err := state.Open(state.Default)
	if err != nil {
		return nil, err
	}
	if err := clear(dir, c.named(d.kind), "", func(e state.Entry) error { return d.undo(ctx, dir, e, nil) }); err != nil {
		return nil, err
	}
	ns, err := netns.Open(c.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	e, err := d.prepare(ctx, dir, ns, c)
	if err != nil {
		return nil, err
	}
	res, err := d.attach(ctx, dir, ns, c, &e)
	if err != nil {
		return nil, errors.Join(err, d.undo(ctx, dir, e, ns))
	}
	return res, nil
}

// clear refuses an ADD of what is attached, and undoes what an ADD that was cut
// short has left.
func clear(dir *state.Dir, a cni.Attachment, layer string, undo func(state.Entry) error) error {
	e, ok, err := dir.Get(a, layer)
	if err != nil || !ok {
		return err
	}
	if e.Record.Phase == cni.Attached && !dir.Stale(e) {
		// A namespace that is gone took it along.
		ns, err := netns.Reopen(e.Record.Attachment.Netns)
		if err == nil {
			return errors.Join(refusal.New("", "CNI_IFNAME", a.IfName, "an interface that container "+a.ContainerID+" does not have yet; DEL it first"), ns.Close())
		}
		if !errors.Is(err, netns.ErrGone) {
			return err
		}
	}
	return undo(e)
}

// prepare decides and records the decision.
func (d driver) prepare(ctx context.Context, dir *state.Dir, ns *os.File, c call) (state.Entry, error) {
	a, err := c.attachment(d.kind)
	if err != nil {
		return state.Entry{}, err
	}
	if a.Netns, err = netns.Identify(ns); err != nil {
		return state.Entry{}, err
	}
	a.Netns.Path = c.Netns
	if d.chained {
		if a.Config, err = chainedMaster(c, a.Config); err != nil {
			return state.Entry{}, err
		}
	}
	if !d.hold {
		a.Device = ""
	}
	e := state.Entry{Record: cni.Record{Attachment: a, Phase: cni.Intent}, Stdin: c.StdinData}
	if e.Record.Prior, err = d.Prior(ctx, a); err != nil {
		return e, err
	}
	kind, err := c.ipamKind()
	if err != nil {
		return e, err
	}
	if err := runnable(kind, c.Path); err != nil {
		return e, err
	}
	e.Leased = kind != ""
	return e, dir.Put(&e)
}

// attach leases, makes the link and records both.
func (d driver) attach(ctx context.Context, dir *state.Dir, ns *os.File, c call, e *state.Entry) (*current.Result, error) {
	a := &e.Record.Attachment
	late, err := d.late(c)
	if err != nil {
		return nil, err
	}
	if late {
		return d.attachLate(ctx, dir, ns, c, e)
	}
	lease, err := d.lease(ctx, c, e.Leased)
	if err != nil {
		return nil, err
	}
	if err := lease.into(a); err != nil {
		return nil, err
	}
	if d.complete != nil {
		if *a, err = d.complete(*a); err != nil {
			return nil, err
		}
	}
	if err := dir.Put(e); err != nil {
		return nil, err
	}
	if e.Record.Link, err = d.Attach(ctx, ns, e.Record); err != nil {
		return nil, err
	}
	e.Record.Phase = cni.Attached
	if err := dir.Put(e); err != nil {
		return nil, err
	}
	return d.result(e.Record, lease)
}

// late reports whether the ipam talks through the link, and so has to come after
// it: dhcp does.
func (d driver) late(c call) (bool, error) {
	kind, err := c.ipamKind()
	if err != nil || kind != "dhcp" {
		return false, err
	}
	if conf, err := netconf.ParseIpvlan(c.network.Plugins[0]); d.kind == "ipvlan" && err == nil && conf.Mode != "l2" {
		return false, refusal.New("network configuration", "ipam.type", kind, "static or host-local in mode "+conf.Mode+": nobody hears a broadcast there")
	}
	if conf, err := netconf.ParseBridge(c.network.Plugins[0]); d.kind == "bridge" && err == nil && conf.Gateway {
		return false, refusal.New("network configuration", "isGateway", true, "false with dhcp: the server names the gateway")
	}
	return true, nil
}

// attachLate makes the link without addresses and adds those of the lease to it.
func (d driver) attachLate(ctx context.Context, dir *state.Dir, ns *os.File, c call, e *state.Entry) (*current.Result, error) {
	var err error
	if e.Record.Link, err = d.Attach(ctx, ns, e.Record); err != nil {
		return nil, err
	}
	if err := dir.Put(e); err != nil {
		return nil, err
	}
	lease, err := leaseFrom(ctx, c)
	if err != nil {
		return nil, err
	}
	a := &e.Record.Attachment
	if err := lease.into(a); err != nil {
		return nil, err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return nil, err
	}
	_, err = conn.Configure(ctx, e.Record.Link.Index, netns.Setup{Addresses: a.Addresses, Routes: a.Routes, Up: true})
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	e.Record.Phase = cni.Attached
	if err := dir.Put(e); err != nil {
		return nil, err
	}
	return d.result(e.Record, lease)
}

// lease asks the ipam, or takes over what an earlier plugin of the chain gave.
func (d driver) lease(ctx context.Context, c call, wanted bool) (lease, error) {
	if wanted {
		return leaseFrom(ctx, c)
	}
	if d.chained {
		return leaseOfChain(c)
	}
	return lease{}, nil
}

func (d driver) del(ctx context.Context, c call) error {
	dir, err := state.Open(state.Default)
	if err != nil {
		return err
	}
	e, ok, err := dir.Get(c.named(d.kind), "")
	if err != nil {
		return err
	}
	if !ok {
		// Nothing of ours but a record that was cut short; but the ipam may hold an
		// address all the same.
		return errors.Join(releaseUnknown(ctx, c), dir.Remove(c.named(d.kind), ""))
	}
	return d.undo(ctx, dir, e, nil)
}

// undo is the only way back: the link, then the addresses, then the record. All
// of it is tried; the record stays until both are done. ns is opened if it is nil.
func (d driver) undo(ctx context.Context, dir *state.Dir, e state.Entry, ns *os.File) error {
	var errs []error
	if kind, err := entryIPAM(e); e.Leased && err == nil && kind == "dhcp" {
		// It says good-bye through the link.
		if err := release(ctx, e); err != nil {
			errs = append(errs, err)
		}
		e.Leased = false
	}
	if !dir.Stale(e) {
		errs = append(errs, inPod(e.Record, ns, func(ns *os.File) error { return d.Detach(ctx, ns, e.Record) }))
	}
	if e.Leased {
		errs = append(errs, release(ctx, e))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return dir.Remove(e.Record.Attachment, e.Layer)
}

// entryIPAM is the ipam type of a recorded attachment.
func entryIPAM(e state.Entry) (string, error) {
	p, err := e.Record.Attachment.Config.First()
	if err != nil {
		return "", err
	}
	_, kind, err := netconf.ParseIPAM(p)
	return kind, err
}

// inPod calls f with the record's namespace, nil if it is gone.
func inPod(r cni.Record, ns *os.File, f func(ns *os.File) error) error {
	if ns != nil {
		return f(ns)
	}
	ns, err := netns.Reopen(r.Attachment.Netns)
	if errors.Is(err, netns.ErrGone) {
		return f(nil)
	}
	if err != nil {
		return err
	}
	return errors.Join(f(ns), ns.Close())
}

func (d driver) gc(ctx context.Context, c call) error {
	valid, err := validAttachments(c)
	if err != nil {
		return err
	}
	err = collect(c.network.Name, d.kind, valid, func(dir *state.Dir, e state.Entry) error { return d.undo(ctx, dir, e, nil) })
	return errors.Join(err, gcIPAM(ctx, c))
}

// collect undoes the recorded attachments of a kind to a network that are not
// valid. It tries all of them.
func collect(network, kind string, valid map[[2]string]bool, undo func(*state.Dir, state.Entry) error) error {
	dir, err := state.Open(state.Default)
	if err != nil {
		return err
	}
	all, err := dir.All(kind)
	errs := []error{err}
	for _, e := range all {
		a := e.Record.Attachment
		if a.Network == network && !valid[[2]string{a.ContainerID, a.IfName}] {
			errs = append(errs, undo(dir, e))
		}
	}
	return errors.Join(errs...)
}

// validAttachments are the containers and interfaces on the list of GC.
func validAttachments(c call) (map[[2]string]bool, error) {
	list, err := cni.ValidAttachments(c.StdinData)
	if err != nil {
		return nil, err
	}
	out := map[[2]string]bool{}
	for _, v := range list {
		out[[2]string{v.ContainerID, v.IfName}] = true
	}
	return out, nil
}

func (d driver) status(ctx context.Context, c call) error {
	if err := statusIPAM(ctx, c); err != nil || !d.probe {
		return err
	}
	a, err := c.attachment(d.kind)
	if err == nil {
		_, err = d.Prior(ctx, a)
	}
	var r *refusal.Refusal
	if errors.As(err, &r) && r.Field == "vlanId" {
		return nil // the one pod that may have it, has it
	}
	return cni.Unavailable(cannotAdd, err)
}
