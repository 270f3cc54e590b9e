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

// flags are the values of IFLA_IPVLAN_FLAGS (linux/if_link.h).
var flags = map[string]uint16{"bridge": 0, "private": 1, "vepa": 2}

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
	c, conf, err := child(a)
	if err != nil {
		return nil, err
	}
	p, err := c.Prior(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkMode(c, conf, p); err != nil {
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
	d.log.InfoContext(ctx, "ipvlan made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "master", p.Name)
	return l, nil
}

// Detach removes the link from ns. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	return stacked.Detach(ctx, ns, r, kind, d.log)
}

// child reads the attachment's configuration.
func child(a cni.Attachment) (c stacked.Child, conf netconf.Ipvlan, err error) {
	object := stacked.Object(a)
	p, err := a.Config.First()
	if err != nil {
		return c, conf, refusal.Name(err, object)
	}
	conf, err = netconf.ParseIpvlan(p)
	if err != nil {
		return c, conf, refusal.Name(err, object)
	}
	if a.MAC != "" {
		return c, conf, refusal.New(object, "mac", a.MAC, "none: all ipvlan interfaces have their master's address; macvlan gives each its own")
	}
	return stacked.Child{
		Object: object, Kind: kind, Master: conf.Master, InPod: conf.LinkInContainer, MTU: conf.MTU,
		Data:   data(conf),
		Routes: routes(conf.Mode, a.Routes),
	}, conf, nil
}

// data are the attributes of the kind. The flag is left out where it is the
// kernel's default, so that a kernel without it (before 4.15) serves.
func data(conf netconf.Ipvlan) []netns.Attr {
	out := []netns.Attr{{Type: unix.IFLA_IPVLAN_MODE, Value: binary.NativeEndian.AppendUint16(nil, modes[conf.Mode])}}
	if f := flags[conf.Flag]; f != 0 {
		out = append(out, netns.Attr{Type: unix.IFLA_IPVLAN_FLAGS, Value: binary.NativeEndian.AppendUint16(nil, f)})
	}
	return out
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

// checkMode refuses a mode, or a flag, other than that of the children that can
// be seen.
func checkMode(c stacked.Child, conf netconf.Ipvlan, p stacked.Parent) error {
	if c.InPod {
		return nil
	}
	for _, l := range stacked.Children(p, kind) {
		for _, f := range []struct {
			field, wanted string
			typ           uint16
			names         map[string]uint16
		}{{"mode", conf.Mode, unix.IFLA_IPVLAN_MODE, modes}, {"flag", conf.Flag, unix.IFLA_IPVLAN_FLAGS, flags}} {
			now, ok := word(l, f.typ, f.names)
			if ok && now != f.wanted {
				return refusal.New(c.Object, f.field, f.wanted, fmt.Sprintf("%s, while master %s carries %s: all its children share one %s", now, p.Name, stacked.Names([]netns.Link{l}), f.field))
			}
		}
	}
	return nil
}

// word is the name of a 16-bit attribute's value.
func word(l netns.Link, typ uint16, names map[string]uint16) (string, bool) {
	for _, d := range l.Data {
		if d.Type != typ || len(d.Value) != 2 {
			continue
		}
		v := binary.NativeEndian.Uint16(d.Value)
		for name, value := range names {
			if value == v {
				return name, true
			}
		}
		return fmt.Sprintf("number %d", v), true
	}
	return "", false
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
