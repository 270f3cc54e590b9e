package bond

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/borrowed"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

const kind = "bond"

// Driver is the cni.Driver of bonds.
type Driver struct{ log *slog.Logger }

// New returns a Driver that logs what it changes.
func New(log *slog.Logger) *Driver { return &Driver{log: log} }

// note is what the journal keeps: the host's links, none if the slaves are in
// the pod already.
type note struct {
	Slaves []borrowed.Device `json:"slaves,omitempty"`
}

// Prior finds the slaves on the host. Slaves in the pod, which earlier
// attachments bring, cannot be seen yet and are checked by Attach. See
// cni.Driver.
func (d *Driver) Prior(ctx context.Context, a cni.Attachment) (json.RawMessage, error) {
	conf, err := parse(a)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var n note
	if !conf.LinksInContainer {
		if n, err = hostSlaves(conf, stacked.Object(a)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(n)
}

func hostSlaves(conf netconf.Bond, object string) (note, error) {
	conn, err := netns.Dial(nil)
	if err != nil {
		return note{}, err
	}
	defer conn.Close()
	var n note
	for i, name := range conf.Links {
		l, err := findSlave(conn, conf, i, name, object, "on the host")
		if err != nil {
			return note{}, err
		}
		dev, err := borrowed.Note(conn, l, object, fmt.Sprintf("links[%d].name", i))
		if err != nil {
			return note{}, err
		}
		n.Slaves = append(n.Slaves, dev)
	}
	return n, nil
}

// findSlave reads one slave and checks what can be checked.
func findSlave(conn *netns.Conn, conf netconf.Bond, i int, name, object, where string) (netns.Link, error) {
	field := fmt.Sprintf("links[%d].name", i)
	l, err := conn.LinkByName(name)
	switch {
	case errors.Is(err, netns.ErrNotFound):
		return l, refusal.New(object, field, name, "the name of a link "+where).Because(err)
	case err != nil:
		return l, err
	case l.Master != 0:
		return l, refusal.New(object, field, name, "a link that is no slave yet; this one belongs to a "+l.SlaveKind)
	case conf.MTU > l.MTU:
		return l, refusal.New(object, "mtu", conf.MTU, fmt.Sprintf("0..%d, the MTU of %s", l.MTU, name))
	}
	return l, nil
}

// Attach makes the bond in ns and enslaves the links. See cni.Driver.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	a := r.Attachment
	conf, err := parse(a)
	if err != nil {
		return cni.Link{}, err
	}
	n, err := recorded(r)
	if err != nil {
		return cni.Link{}, err
	}
	if ns == nil {
		return cni.Link{}, fmt.Errorf("attach %s: %w", a.IfName, netns.ErrGone)
	}
	if _, err := netns.Identify(ns); err != nil {
		return cni.Link{}, err
	}
	l, err := build(ctx, ns, conf, n, a)
	if err != nil {
		return cni.Link{}, stacked.Child{Object: stacked.Object(a), Kind: kind, MAC: a.MAC, InPod: true}.Explain(err, a, stacked.Parent{})
	}
	d.log.InfoContext(ctx, "bond made", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name, "network", a.Network, "slaves", conf.Links)
	return cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU}, nil
}

func build(ctx context.Context, ns *os.File, conf netconf.Bond, n note, a cni.Attachment) (netns.Link, error) {
	conn, err := netns.Dial(ns)
	if err != nil {
		return netns.Link{}, err
	}
	defer conn.Close()
	l, err := conn.Create(ctx, netns.Spec{Name: a.IfName, Kind: kind, Data: attributes(conf), Mark: mark(a), Setup: netns.Setup{MTU: conf.MTU, MAC: a.MAC}})
	if err != nil {
		return l, err
	}
	for i, dev := range n.Slaves {
		if _, err := borrowed.Lend(ctx, ns, dev, borrowed.Loan{Name: dev.Name, Mark: slaveMark(a, i)}); err != nil {
			return l, err
		}
	}
	if err := enslave(ns, conn, l.Index, conf, stacked.Object(a)); err != nil {
		return l, err
	}
	return conn.Configure(ctx, l.Index, netns.Setup{Addresses: a.Addresses, Routes: a.Routes, Vouched: a.Vouched, Up: true})
}

// Detach releases the slaves, removes the bond and gives the host's links back.
// See cni.Driver.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	n, err := recorded(r)
	if err != nil {
		return err
	}
	// The kernel releases the slaves of a bond that goes, with the MAC and MTU
	// that they had.
	errs := []error{stacked.Detach(ctx, ns, r, kind, d.log)}
	for i, dev := range slices.Backward(n.Slaves) {
		_, err := borrowed.Return(ctx, ns, dev, borrowed.Loan{Mark: slaveMark(r.Attachment, i), Lent: r.Link.Index != 0})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func recorded(r cni.Record) (note, error) {
	var n note
	if len(r.Prior) == 0 {
		return n, nil
	}
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return n, fmt.Errorf("read note of %s: %w", r.Attachment.IfName, err)
	}
	return n, nil
}

func parse(a cni.Attachment) (netconf.Bond, error) {
	p, err := a.Config.First()
	if err != nil {
		return netconf.Bond{}, refusal.Name(err, stacked.Object(a))
	}
	conf, err := netconf.ParseBond(p)
	return conf, refusal.Name(err, stacked.Object(a))
}

func mark(a cni.Attachment) string { return netns.Mark(a.ContainerID, a.Network, a.IfName) }

// slaveMark is the mark of the i-th link that is lent to the bond.
func slaveMark(a cni.Attachment, i int) string {
	return netns.Mark(a.ContainerID, a.Network, fmt.Sprintf("%s.slave%d", a.IfName, i))
}
