package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Driver is the cni.Driver of bridge ports.
type Driver struct{ log *slog.Logger }

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{log: log} }

// Note is what the journal keeps: the names on the host.
type Note struct {
	Bridge string `json:"bridge"`
	// Port is the name of the host's end of the pair.
	Port string `json:"port"`
}

// Prior refuses what the bridge, where it exists, cannot do. See cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	conf, err := parse(a)
	if err != nil {
		return nil, err
	}
	h, err := netns.Handle(nil)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := checkBridge(h, conf, stacked.Object(a)); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return json.Marshal(Note{Bridge: conf.Name, Port: portName(a)})
}

// Attach makes the pair, the bridge where it is missing, and the port. See
// cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	conf, err := parse(a)
	if err != nil {
		return cni.Link{}, err
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("attach %s: %w", a.IfName, netns.ErrGone)
	}
	if _, err := netns.Identify(ns); err != nil {
		return cni.Link{}, err
	}
	h, err := netns.Handle(nil)
	if err != nil {
		return cni.Link{}, err
	}
	defer h.Close()
	l, err := d.attach(ctx, ns, h, conf, a)
	if err != nil {
		return cni.Link{}, stacked.Child{Object: stacked.Object(a), Kind: "veth", MAC: mac(a, conf)}.Explain(err, a, stacked.Parent{Name: conf.Name})
	}
	d.log.InfoContext(ctx, "bridge port made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "bridge", conf.Name, "port", portName(a))
	return cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU}, nil
}

func (d *Driver) attach(ctx context.Context, ns *os.File, h *netlink.Handle, conf netconf.Bridge, a cni.Attachment) (netns.Link, error) {
	br, err := ensure(h, conf)
	if err != nil {
		return netns.Link{}, err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return netns.Link{}, err
	}
	defer conn.Close()
	l, err := conn.Create(ctx, netns.Spec{
		Name: a.IfName, Kind: "veth", Peer: &netns.Peer{Name: portName(a), MTU: conf.MTU},
		Mark:  markOf(a),
		Setup: netns.Setup{MAC: mac(a, conf), MTU: conf.MTU},
	})
	if err != nil {
		return l, err
	}
	port, err := plug(h, br, conf, a)
	if err != nil {
		return l, err
	}
	if err := guard(conf, a, l.MAC); err != nil {
		return l, err
	}
	if err := gateways(h, br, conf, a); err != nil {
		return l, err
	}
	if conf.Down {
		return l, nil
	}
	l, err = conn.Configure(ctx, l.Index, netns.Setup{
		Addresses: a.Addresses, Routes: a.Routes, Up: true,
		// The reference turns the detection off unless it is asked for.
		Vouched: !conf.DAD,
	})
	if err != nil {
		return l, err
	}
	return l, awaitForwarding(ctx, h, port)
}

// Detach removes the pair and what guarded it. See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	a := r.Attachment
	removed, err := stacked.Remove(ctx, ns, r, "veth")
	gone, hostErr := unplug(portName(a), markOf(a))
	if removed || gone {
		d.log.InfoContext(ctx, "bridge port removed", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "port", portName(a))
	}
	conf, confErr := parse(a) // the one that Prior accepted
	if confErr == nil {
		confErr = unguard(conf, a)
	}
	return errors.Join(err, hostErr, confErr)
}

// HostLinks returns the links on the host that a CNI result names before the
// pod's own: the bridge, the port, and the gateway's VLAN device if there is one.
func (d *Driver) HostLinks(r cni.Record) ([]cni.Link, error) {
	conf, err := parse(r.Attachment)
	if err != nil {
		return nil, err
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	names := []string{conf.Name, portName(r.Attachment)}
	if conf.Gateway && conf.VLAN != 0 {
		names = append(names, vlanName(conf))
	}
	var out []cni.Link
	for _, name := range names {
		l, err := conn.LinkByName(name)
		if err != nil {
			return nil, err
		}
		out = append(out, cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU})
	}
	return out, nil
}

func parse(a cni.Attachment) (netconf.Bridge, error) {
	p, err := a.Config.First()
	if err != nil {
		return netconf.Bridge{}, refusal.Name(err, stacked.Object(a))
	}
	conf, err := netconf.ParseBridge(p)
	return conf, refusal.Name(err, stacked.Object(a))
}

// mac is the hardware address asked for: the pod's wish beats the network's.
func mac(a cni.Attachment, conf netconf.Bridge) string {
	if a.MAC != "" {
		return a.MAC
	}
	return conf.MAC
}

// portName is the name of the host's end. 56 bits of a hash are enough to tell
// the pods of a node apart; should two meet, the kernel refuses the second.
func portName(a cni.Attachment) string {
	sum := sha256.Sum256([]byte(markOf(a)))
	return "t" + hex.EncodeToString(sum[:7])
}

// forwardingLimit is how long a port takes at most until it forwards; the
// reference waits as long.
const forwardingLimit = 2550 * time.Millisecond

// awaitForwarding waits until the port is operational.
func awaitForwarding(ctx context.Context, h *netlink.Handle, port netlink.Link) error {
	for deadline := time.Now().Add(forwardingLimit); ; {
		l, err := h.LinkByIndex(port.Attrs().Index)
		if err != nil {
			return fmt.Errorf("read port %s: %w", port.Attrs().Name, err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("bring up port %s: it is %s after %v", l.Attrs().Name, l.Attrs().OperState, forwardingLimit)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bring up port %s: %w", l.Attrs().Name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}
