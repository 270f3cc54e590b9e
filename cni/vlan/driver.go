package vlan

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

const kind = "vlan"

// Driver is the cni.Driver of VLAN devices.
type Driver struct{ log *slog.Logger }

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{log: log} }

// Prior finds the master and refuses what it cannot carry, and a hardware
// address: the device has its master's. See cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	c, conf, err := child(a)
	if err != nil {
		return nil, err
	}
	p, err := c.Prior(ctx)
	if err != nil {
		return nil, err
	}
	if err := free(c, conf.ID, p); err != nil {
		return nil, err
	}
	return p.Record()
}

// Attach makes the device in ns. See cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	c, conf, err := child(r.Attachment)
	if err != nil {
		return cni.Link{}, err
	}
	l, p, err := c.Attach(ctx, ns, r)
	if err != nil {
		return cni.Link{}, explain(err, c, conf.ID, r.Attachment, p)
	}
	a := r.Attachment
	d.log.InfoContext(ctx, "vlan made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "master", p.Name, "vlan", conf.ID)
	return l, nil
}

// Detach removes the device from ns. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	return stacked.Detach(ctx, ns, r, kind, d.log)
}

// child reads the attachment's configuration.
func child(a cni.Attachment) (stacked.Child, netconf.Vlan, error) {
	object := stacked.Object(a)
	p, err := a.Config.First()
	if err != nil {
		return stacked.Child{}, netconf.Vlan{}, refusal.Name(err, object)
	}
	conf, err := netconf.ParseVlan(p)
	if err != nil {
		return stacked.Child{}, conf, refusal.Name(err, object)
	}
	if a.MAC != "" {
		return stacked.Child{}, conf, refusal.New(object, "mac", a.MAC, "none: a VLAN device has its master's address; macvlan gives each its own")
	}
	return stacked.Child{
		Object: object, Kind: kind, Master: conf.Master, InPod: conf.LinkInContainer, MTU: conf.MTU, Port: true,
		Data:   []netns.Attr{{Type: unix.IFLA_VLAN_ID, Value: u16(uint16(conf.ID))}},
		Routes: a.Routes,
	}, conf, nil
}

func u16(v uint16) []byte { return binary.NativeEndian.AppendUint16(nil, v) }

// free refuses an id that a device which can be seen has on the master: the
// kernel keeps one device for each id, whatever namespace it is in.
func free(c stacked.Child, id int, p stacked.Parent) error {
	if c.InPod {
		return nil
	}
	for _, l := range stacked.Children(p, kind) {
		for _, d := range l.Data {
			if d.Type == unix.IFLA_VLAN_ID && string(d.Value) == string(u16(uint16(id))) {
				return taken(c, id, p, "; it is held by "+stacked.Names([]netns.Link{l}))
			}
		}
	}
	return nil
}

func taken(c stacked.Child, id int, p stacked.Parent, holder string) *refusal.Refusal {
	return refusal.New(c.Object, "vlanId", id, fmt.Sprintf("a VLAN that no other device on master %s has, on the host or in any pod%s", p.Name, holder))
}

// explain turns the answers that mean something to VLAN devices into refusals
// and leaves the rest to c.
func explain(err error, c stacked.Child, id int, a cni.Attachment, p stacked.Parent) error {
	var e *netns.Error
	if !errors.As(err, &e) {
		return c.Explain(err, a, p)
	}
	switch {
	case e.Op == "create" && e.Errno == unix.EEXIST:
		return taken(c, id, p, "").Because(err)
	case e.Op == "up" && e.Errno == unix.ENETDOWN:
		return refusal.New(c.Object, "master", p.Name, "a link that is up; this one is down").Because(err)
	}
	return c.Explain(err, a, p)
}
