package hostdevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/borrowed"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Driver is the cni.Driver of host-device.
type Driver struct {
	sys string
	log *slog.Logger
}

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{sys: "/sys", log: log} }

// note is what the journal keeps.
type note struct {
	// Userspace says that the device has no link, since a driver of user space
	// (vfio-pci) has it.
	Userspace bool            `json:"userspace,omitempty"`
	PCI       string          `json:"pci,omitempty"`
	Device    borrowed.Device `json:"device,omitzero"`
}

// Prior finds the device on the host and refuses one that the host needs. See
// cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	conf, err := parse(a)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n, err := d.find(conf, stacked.Object(a))
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

func (d *Driver) find(conf netconf.HostDevice, object string) (note, error) {
	if pci := conf.PCI; pci != "" && d.userspace(pci) {
		return note{Userspace: true, PCI: pci}, nil
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return note{}, err
	}
	defer conn.Close()
	l, err := d.lookUp(conn, conf, object)
	if err != nil {
		return note{}, err
	}
	dev, err := borrowed.Note(conn, l, object, "device")
	return note{PCI: conf.PCI, Device: dev}, err
}

// Attach moves the device into ns. See cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	var n note
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return cni.Link{}, fmt.Errorf("read note of %s: %w", a.IfName, err)
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("attach %s: %w", a.IfName, netns.ErrGone)
	}
	if _, err := netns.Identify(ns); err != nil {
		return cni.Link{}, err
	}
	if n.Userspace {
		return cni.Link{Name: a.IfName, PCI: n.PCI}, nil
	}
	l, err := borrowed.Lend(ctx, ns, n.Device, borrowed.Loan{
		Name: a.IfName, Mark: mark(a),
		Setup: netns.Setup{MAC: a.MAC, Addresses: a.Addresses, Routes: a.Routes, Vouched: a.Vouched, Up: true},
	})
	if err != nil {
		return cni.Link{}, explain(err, a, n)
	}
	d.log.InfoContext(ctx, "host device moved in", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "device", n.Device.Name)
	return cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU, PCI: n.PCI}, nil
}

// Detach moves the device back. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	a := r.Attachment
	n, err := recorded(r)
	if err != nil || len(r.Prior) == 0 || n.Userspace {
		return err
	}
	back, err := borrowed.Return(ctx, ns, n.Device, borrowed.Loan{Mark: mark(a), Index: r.Link.Index, Lent: r.Link.Index != 0})
	if back {
		d.log.InfoContext(ctx, "host device moved back", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "device", n.Device.Name)
	}
	return err
}

func mark(a cni.Attachment) string { return netns.Mark(a.ContainerID, a.Network, a.IfName) }

func parse(a cni.Attachment) (netconf.HostDevice, error) {
	object := stacked.Object(a)
	p, err := a.Config.First()
	if err != nil {
		return netconf.HostDevice{}, refusal.Name(err, object)
	}
	conf, err := netconf.ParseHostDevice(p)
	if err != nil {
		return conf, refusal.Name(err, object)
	}
	if a.Device != "" {
		conf.DeviceID = a.Device
	}
	if !conf.Named() {
		return conf, refusal.New(object, "device", "", "one of device, hwaddr, kernelpath, pciBusID, or the capability deviceID")
	}
	return conf, nil
}

func explain(err error, a cni.Attachment, n note) error {
	if errors.Is(err, netns.ErrNotFound) {
		return refusal.New(stacked.Object(a), "device", n.Device.Name, "a device that is on the host; it went away during this attach").Because(err)
	}
	return stacked.Child{Object: stacked.Object(a), MAC: a.MAC}.Explain(err, a, stacked.Parent{Name: n.Device.Name})
}
