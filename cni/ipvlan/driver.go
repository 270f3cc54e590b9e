package ipvlan

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

const kind = "ipvlan"

// modes are the values of IFLA_IPVLAN_MODE (linux/if_link.h, kernel doc
// networking/ipvlan).
var modes = map[string]uint16{"l2": 0, "l3": 1, "l3s": 2}

// Driver is the cni.Driver of ipvlan.
type Driver struct{ log *slog.Logger }

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{log: log} }

// Prior finds the master and refuses what it cannot carry, a hardware address,
// and a mode other than that of the children it has. See cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	c, mode, err := child(a)
	if err != nil {
		return nil, err
	}
	p, err := c.Prior(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkMode(c, mode, p); err != nil {
		return nil, err
	}
	return p.Record()
}

// Attach makes the link in ns. See cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	c, _, err := child(r.Attachment)
	if err != nil {
		return cni.Link{}, err
	}
	l, p, err := c.Attach(ctx, ns, r)
	if err != nil {
		return cni.Link{}, explain(err, c, r.Attachment, p)
	}
	a := r.Attachment
	d.log.Info("ipvlan made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "master", p.Name)
	return l, nil
}

// Detach removes the link from ns. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	removed, err := stacked.Detach(ctx, ns, r, kind)
	if removed {
		a := r.Attachment
		d.log.Info("ipvlan removed", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network)
	}
	return err
}

// child reads the attachment's configuration; mode is its own.
func child(a cni.Attachment) (c stacked.Child, mode string, err error) {
	object := stacked.Object(a)
	if len(a.Config.Plugins) == 0 {
		return c, "", refusal.New(object, "plugins", len(a.Config.Plugins), "at least one plugin")
	}
	conf, err := netconf.ParseIpvlan(a.Config.Plugins[0])
	if err != nil {
		return c, "", refusal.Name(err, object)
	}
	if a.MAC != "" {
		return c, "", refusal.New(object, "mac", a.MAC, "none: all ipvlan interfaces have their master's address; macvlan gives each its own")
	}
	return stacked.Child{
		Object: object, Kind: kind, Master: conf.Master, InPod: conf.LinkInContainer, MTU: conf.MTU,
		Data:   []netns.Attr{{Type: unix.IFLA_IPVLAN_MODE, Value: binary.NativeEndian.AppendUint16(nil, modes[conf.Mode])}},
		Routes: routes(conf.Mode, a.Routes),
	}, conf.Mode, nil
}

// routes returns the attachment's routes as the mode can use them. In l3 and l3s
// the master's namespace routes, and no gateway is ever asked for by ARP or
// neighbour discovery: a default route goes to the interface itself.
func routes(mode string, given []cni.Route) []cni.Route {
	if mode == "l2" {
		return given
	}
	out := make([]cni.Route, 0, len(given))
	for _, r := range given {
		if r.Dst.Bits() == 0 {
			r.Via = netip.Addr{}
			r.Scope = nil
		}
		out = append(out, r)
	}
	return out
}

// checkMode refuses a mode other than that of the children that can be seen.
func checkMode(c stacked.Child, mode string, p stacked.Parent) error {
	if c.InPod {
		return nil
	}
	for _, l := range stacked.Children(p, kind) {
		for _, d := range l.Data {
			if d.Type != unix.IFLA_IPVLAN_MODE || len(d.Value) != 2 {
				continue
			}
			if now := modeName(binary.NativeEndian.Uint16(d.Value)); now != mode {
				return refusal.New(c.Object, "mode", mode, fmt.Sprintf("%s, while master %s carries %s: all its children share one mode", now, p.Name, stacked.Names([]netns.Link{l})))
			}
		}
	}
	return nil
}

func modeName(v uint16) string {
	for name, m := range modes {
		if m == v {
			return name
		}
	}
	return fmt.Sprintf("mode %d", v)
}

// explain turns the answers that mean something to ipvlan into refusals and
// leaves the rest to c.
func explain(err error, c stacked.Child, a cni.Attachment, p stacked.Parent) error {
	var e *netns.Error
	if !errors.As(err, &e) {
		return c.Explain(err, a, p)
	}
	switch {
	case e.Op == "create" && e.Errno == unix.EBUSY:
		allowed := "a link whose frames nothing else takes (bridge, bond, team, Open vSwitch or macvlan)"
		if users := stacked.Users(p, "macvlan"); users != "" {
			allowed += "; this one carries " + users
		}
		return refusal.New(c.Object, "master", p.Name, allowed).Because(err)
	case (e.Op == "address" || e.Op == "up") && e.Errno == unix.EADDRINUSE:
		return refusal.New(c.Object, "ips", e.Object, fmt.Sprintf("addresses that no other ipvlan on master %s has", p.Name)).Because(err)
	}
	return c.Explain(err, a, p)
}
