package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// Kinds with a rule of their own here; the others are known to their drivers
// alone.
const (
	KindVlan       = "vlan"
	KindBridge     = "bridge"
	KindHostDevice = "host-device"
	KindBond       = "bond"
)

// Modifiers that take the routes of an interface out of the main table.
const (
	modifierSBR = "sbr"
	modifierVRF = "vrf"
)

// Modifier changes an interface that a Driver has made: a later plugin of a
// native chain. The records that it gets are those of the interface, with its own
// plugin as the only one of Config.Plugins and its own note as Prior.
type Modifier interface {
	// Prior reads, and does not change, what Attach will alter in ns and Detach
	// must give back. It is called before anything is recorded: the interface is
	// not there yet. It refuses what cannot be done.
	Prior(ctx context.Context, ns *os.File, a Attachment) (json.RawMessage, error)
	// Attach changes the interface and returns it as it is then. On error the
	// caller runs Detach with the same record.
	Attach(ctx context.Context, ns *os.File, r Record) (Link, error)
	// Detach gives back what Attach may have changed beside the interface itself,
	// as Driver.Detach does; the interface may be there still, or be gone.
	Detach(ctx context.Context, ns *os.File, r Record) error
}

// Leases gets addresses from the network's own servers, by way of the interface.
type Leases interface {
	// Fit refuses a configuration that cannot be served; it asks no server.
	Fit(a Attachment) error
	// Acquire has the interface of r, which is there without addresses, get a
	// lease and configures it so. It returns the attachment with what the lease
	// says. One that is held already is the answer.
	Acquire(ctx context.Context, ns *os.File, r Record) (Attachment, error)
	// Release gives the lease of r back; none is done. ns is nil when the pod's
	// namespace is gone.
	Release(ctx context.Context, ns *os.File, r Record) error
}

// completer is what a Driver may also be: it adds to the reserved addresses and
// routes what the configuration makes of them. It is pure.
type completer interface {
	Completed(a Attachment) (Attachment, error)
}

// hoster is what a Driver may also be: it names the links on the host that belong
// to an attached interface, as the CNI result has them.
type hoster interface {
	HostLinks(r Record) ([]Link, error)
}

// note puts into rec what its driver and its modifiers will change.
func (e *Engine) note(ctx context.Context, ns *os.File, rec *Record) (err error) {
	a := rec.Attachment
	if rec.Prior, err = e.Drivers[a.Kind].Prior(ctx, a); err != nil {
		return err
	}
	if a.Leased {
		if e.Leases == nil {
			return refusal.New("", "ipam.type", "dhcp", "static or host-local: this daemon keeps no leases")
		}
		if err := e.Leases.Fit(a); err != nil {
			return err
		}
	}
	rec.Notes = nil
	for i, p := range a.Config.Later() {
		m := e.Modifiers[p.Type]
		if m == nil {
			return refusal.New("", fmt.Sprintf("plugins[%d].type", i+1), p.Type, "a plugin that this daemon has")
		}
		note, err := m.Prior(ctx, ns, rec.part(i).Attachment)
		if err != nil {
			return err
		}
		rec.Notes = append(rec.Notes, note)
	}
	return nil
}

// part is the record as the i-th modifier sees it.
func (r Record) part(i int) Record {
	r.Attachment.Config = r.Attachment.Config.At(i + 1)
	r.Prior = nil
	if i < len(r.Notes) && string(r.Notes[i]) != "null" {
		r.Prior = r.Notes[i]
	}
	return r
}

// complete adds to what was reserved what the kind makes of it. dns is the
// ipam's.
func (e *Engine) complete(a *Attachment, dns ipam.DNS) (err error) {
	if a.Kind == KindBridge && len(a.DNS.Nameservers)+len(a.DNS.Search)+len(a.DNS.Options)+len(a.DNS.Domain) == 0 {
		a.DNS = netconf.DNS(dns) // the one kind whose reference passes it on
	}
	if c, ok := e.Drivers[a.Kind].(completer); ok {
		*a, err = c.Completed(*a)
	}
	return err
}

// attachNative makes the interface, gets it its lease where it wants one, and
// then runs its modifiers in their order.
func (e *Engine) attachNative(ctx context.Context, ns *os.File, rec *Record) (err error) {
	d := e.Drivers[rec.Attachment.Kind]
	if rec.Link, err = d.Attach(ctx, ns, *rec); err != nil {
		return err
	}
	if rec.Attachment.Leased {
		if rec.Attachment, err = e.Leases.Acquire(ctx, ns, *rec); err != nil {
			return err
		}
	}
	for i, p := range rec.Attachment.Config.Later() {
		if rec.Link, err = e.Modifiers[p.Type].Attach(ctx, ns, rec.part(i)); err != nil {
			return fmt.Errorf("%s: %w", p.Type, err)
		}
	}
	if h, ok := d.(hoster); ok {
		rec.Host, err = h.HostLinks(*rec)
	}
	return err
}

// detachNative goes the way of attachNative backwards. Everything is tried: what
// a modifier could not give back must not keep the interface.
func (e *Engine) detachNative(ctx context.Context, ns *os.File, rec Record) error {
	var errs []error
	for i, p := range slices.Backward(rec.Attachment.Config.Later()) {
		m := e.Modifiers[p.Type]
		if m == nil {
			errs = append(errs, fmt.Errorf("detach %s: this daemon has no such plugin", p.Type))
			continue
		}
		if err := m.Detach(ctx, ns, rec.part(i)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Type, err))
		}
	}
	if rec.Attachment.Leased && e.Leases != nil {
		errs = append(errs, e.Leases.Release(ctx, ns, rec))
	}
	return errors.Join(append(errs, e.Drivers[rec.Attachment.Kind].Detach(ctx, ns, rec))...)
}

// checkNative compares the interface with its record, and what the modifiers
// changed with their configuration.
func (e *Engine) checkNative(ctx context.Context, ns *os.File, rec Record) error {
	var errs []error
	if c, ok := e.Drivers[rec.Attachment.Kind].(Checker); ok {
		errs = append(errs, c.Check(ctx, ns, rec))
	}
	for i, p := range rec.Attachment.Config.Later() {
		if c, ok := e.Modifiers[p.Type].(Checker); ok {
			errs = append(errs, c.Check(ctx, ns, rec.part(i)))
		}
	}
	return errors.Join(errs...)
}

// Rerouted says that the interface's routes may be in another table than they
// name, since a later plugin of the chain has taken them there.
func (r Record) Rerouted() bool {
	return slices.ContainsFunc(r.Attachment.Config.Later(), func(p netconf.Plugin) bool {
		return p.Type == modifierSBR || p.Type == modifierVRF
	})
}

// plain reports whether nothing but the interface itself has to be given back.
func (r Record) plain() bool {
	return !r.Attachment.Leased && len(r.Attachment.Config.Later()) == 0
}

// unserved refuses what the pod asks for and no plugin of a native network does
// anything about, declared or not.
func unserved(kind string, e netconf.Element) error {
	switch {
	case len(e.PortMappings) > 0:
		return refusal.New("", "portMappings", string(e.PortMappings), "absent: ports are mapped by a plugin portmap behind a bridge, which makes the chain one of executables")
	case e.InfinibandGUID != "":
		return refusal.New("", "infiniband-guid", e.InfinibandGUID, "absent: "+kind+" is of Ethernet; ib-sriov takes it")
	case len(e.Bandwidth) > 0 && kind != KindSriov:
		return refusal.New("", "bandwidth", string(e.Bandwidth), "absent: of the kinds in process sriov alone limits what a pod sends; behind a bridge the plugin bandwidth does, by executables")
	}
	return nil
}

// leased completes the plan of an attachment whose addresses come from the
// network's own servers once its interface is there.
func leased(a Attachment, asked []string) (Planned, error) {
	if len(asked) > 0 {
		return Planned{}, refusal.New("", "ips", asked, "none with an ipam of type dhcp: the server chooses")
	}
	p := a.Config.Plugins[0]
	switch a.Kind {
	case KindIpvlan:
		conf, err := netconf.ParseIpvlan(p)
		if err != nil {
			return Planned{}, err
		}
		if conf.Mode != "l2" {
			return Planned{}, refusal.New("", "ipam.type", "dhcp", "static or host-local in mode "+conf.Mode+": nobody hears a broadcast there")
		}
	case KindBridge:
		conf, err := netconf.ParseBridge(p)
		if err != nil {
			return Planned{}, err
		}
		if conf.Gateway {
			return Planned{}, refusal.New("", "isGateway", true, "false with an ipam of type dhcp: the server names the gateway")
		}
	}
	a.Leased = true
	return Planned{Attachment: a}, nil
}
