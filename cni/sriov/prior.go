package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// prior is a VF as it was before an attachment. Records keep it across upgrades:
// fields are added, and neither renamed nor given another meaning.
type prior struct {
	VF     vf.Addr `json:"vf"`
	PF     vf.Addr `json:"pf"`
	Index  int     `json:"index"`
	Driver string  `json:"driver"`
	// Netdev is empty for a VF on a userspace driver, and so are the four below.
	Netdev string `json:"netdev,omitempty"`
	MAC    string `json:"mac,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	Alias  string `json:"alias,omitempty"`
	// AltNames are the device's alternative names; nil in records of versions that
	// did not note them, empty for none.
	AltNames []string `json:"altNames,omitzero"`
	// Up is the device's administrative state; Promisc and Allmulti are flags that
	// somebody set.
	Up       bool `json:"up,omitempty"`
	Promisc  bool `json:"promisc,omitempty"`
	Allmulti bool `json:"allmulti,omitempty"`
	// Attributes is nil where the PF reports none; nothing was set there then.
	Attributes *link.Attributes `json:"attributes,omitempty"`
	// Asked are the fields that the attachment sets on the PF, by their names in
	// package link. Detach goes by them, not by the configuration: a later version
	// may read that differently.
	Asked []string `json:"asked,omitempty"`
}

func (p prior) asked(field string) bool { return slices.Contains(p.Asked, field) }

// undo is the change that takes the PF back to the recorded attributes in
// everything that was asked for, but for the MAC, which has rules of its own.
func (p prior) undo() link.Change {
	if p.Attributes == nil {
		return link.Change{}
	}
	return link.Undo(*p.Attributes, p.Asked)
}

func (p prior) userspace() bool { return p.Netdev == "" }

// decode reads the note that Prior wrote.
func decode(r cni.Record) (prior, error) {
	var p prior
	if err := json.Unmarshal(r.Prior, &p); err != nil {
		return prior{}, fmt.Errorf("read prior state of %s: %w", object(r.Attachment), err)
	}
	if !p.VF.IsValid() || !p.PF.IsValid() {
		return prior{}, fmt.Errorf("read prior state of %s: it names no VF", object(r.Attachment))
	}
	return p, nil
}

// Prior implements cni.Driver. It refuses a device that is no VF of this node, a
// VF that is in another namespace, carries another attachment's mark, is part of
// a bond or bridge, or has a driver that is neither a network nor a userspace
// driver, and settings of which the PF could not give the old value back.
func (d *Driver) Prior(_ context.Context, a cni.Attachment) (json.RawMessage, error) {
	w, err := want(a)
	if err != nil {
		return nil, err
	}
	v, err := d.device(a)
	if err != nil {
		return nil, err
	}
	p := prior{VF: v.Addr, PF: v.PF, Index: v.Index, Driver: v.Driver, Asked: w.fields()}
	if !vf.UserspaceDriver(v.Driver) {
		if err := d.readNetdev(a, &p); err != nil {
			return nil, err
		}
	} else if err := w.noNetdev(object(a), v); err != nil {
		return nil, err
	}
	if err := d.readPF(a, &p, w); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// device looks up the VF that the attachment was given.
func (d *Driver) device(a cni.Attachment) (vf.VF, error) {
	const allowed = "the PCI address of a VF of this node"
	addr, err := vf.ParseAddr(a.Device)
	if err != nil {
		return vf.VF{}, refusal.New(object(a), "deviceID", a.Device, allowed+", as dddd:bb:dd.f")
	}
	v, err := d.fs.VF(addr)
	switch {
	case errors.Is(err, sysfs.ErrAbsent), errors.Is(err, sysfs.ErrNotVF):
		return vf.VF{}, refusal.New(object(a), "deviceID", a.Device, allowed).Because(err)
	case err != nil:
		return vf.VF{}, err
	case v.Index < 0:
		return vf.VF{}, refusal.New(object(a), "deviceID", a.Device, "a VF that its PF lists; "+v.PF.String()+" does not list this one")
	}
	return v, nil
}

// readNetdev notes the VF's network device, which must be on the host and free.
func (d *Driver) readNetdev(a cni.Attachment, p *prior) error {
	host, err := netns.Dial(nil)
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	l, err := d.onHost(host, p.VF)
	if errors.Is(err, netns.ErrNotFound) && p.Driver == "" {
		return refusal.New(object(a), "driver of VF "+p.VF.String(), "", "a network driver, vfio-pci, uio_pci_generic, igb_uio")
	}
	if errors.Is(err, netns.ErrNotFound) {
		return refusal.New(object(a), "deviceID", a.Device, "a VF whose network device is on the host; this one (driver "+p.Driver+
			") is in another network namespace, or its driver is neither a network driver nor vfio-pci, uio_pci_generic or igb_uio")
	}
	if err != nil {
		return err
	}
	if marked(l) {
		return refusal.New(object(a), "deviceID", a.Device, fmt.Sprintf("a VF that no attachment holds; %s belongs to %q and is not restored yet", l.Name, l.Alias))
	}
	if l.Master != 0 {
		return refusal.New(object(a), "deviceID", a.Device, fmt.Sprintf("a VF that the host does not use; %s is part of a bond, bridge or VRF (index %d)", l.Name, l.Master))
	}
	p.Netdev, p.MAC, p.MTU, p.Alias, p.Up = l.Name, l.MAC, l.MTU, l.Alias, l.Up()
	p.AltNames = append([]string{}, l.AltNames...)
	p.Promisc, p.Allmulti = l.Flags&unix.IFF_PROMISC != 0, l.Flags&unix.IFF_ALLMULTI != 0
	return nil
}

// readPF notes what the PF keeps about the VF.
func (d *Driver) readPF(a cni.Attachment, p *prior, w wanted) error {
	pf, err := d.fs.PF(p.PF)
	if err != nil {
		return err
	}
	if pf.Netdev == "" {
		if len(p.Asked) > 0 {
			return refusal.New(object(a), "deviceID", a.Device, "a VF whose PF has a network device on the host, because vlan, mac, rates, "+
				"spoofchk, trust and link_state are set there; PF "+p.PF.String()+" has driver "+fmt.Sprintf("%q", pf.Driver))
		}
		return nil
	}
	t := link.Target{PF: pf.Netdev, Driver: pf.Driver, Index: p.Index}
	seen, err := link.Read(t)
	switch {
	case errors.Is(err, link.ErrNoVF) && len(p.Asked) == 0:
		return nil
	case err != nil:
		return err
	}
	p.Attributes = &seen
	return link.Check(t, seen, w.change())
}
