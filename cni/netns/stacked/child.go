package stacked

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Child is a link to be made on a parent: an attachment, with what its driver
// read from the configuration.
type Child struct {
	// Object names the network in refusals, see Object.
	Object string
	// Kind is the kernel's name of the driver.
	Kind string
	// Master is the parent's name or alternative name; empty is the link of the
	// default route. InPod looks for it in the pod and not on the host.
	Master string
	InPod  bool
	// MTU 0 takes the parent's. MAC "" lets the kernel choose.
	MTU int
	MAC string
	// Port allows a parent that is a port of a bridge or bond: a VLAN device gets
	// its frames before they do.
	Port bool
	// Data are the attributes of the kind.
	Data []netns.Attr
	// Routes replaces the attachment's.
	Routes []cni.Route
}

// Object names the network of an attachment the way refusals do.
func Object(a cni.Attachment) string { return fmt.Sprintf("network %q", a.Network) }

// Prior finds and checks the parent on the host and returns it for the journal.
// A parent in the pod cannot be seen yet and is checked by Attach.
func (c Child) Prior(ctx context.Context) (Parent, error) {
	if err := ctx.Err(); err != nil || c.InPod {
		return Parent{}, err
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return Parent{}, err
	}
	p, err := c.parent(conn)
	return p, errors.Join(err, conn.Close())
}

// Record is the driver's note for the journal: p as JSON.
func (p Parent) Record() (json.RawMessage, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("record parent %s: %w", p.Name, err)
	}
	return b, nil
}

// Recorded reads what Record wrote; nothing written is the zero Parent.
func Recorded(prior json.RawMessage) (Parent, error) {
	var p Parent
	if len(prior) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(prior, &p); err != nil {
		return p, fmt.Errorf("read recorded parent: %w", err)
	}
	return p, nil
}

// Attach makes the child in ns, complete and up, and returns what was observed
// and the parent. Errors of the kernel come as *netns.Error, for the driver to
// explain first what only it understands, and then Explain.
func (c Child) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, Parent, error) {
	if ns == nil {
		return cni.Link{}, Parent{}, fmt.Errorf("attach %s: %w", r.Attachment.IfName, netns.ErrGone)
	}
	if _, err := netns.Identify(ns); err != nil {
		return cni.Link{}, Parent{}, err
	}
	p, err := Recorded(r.Prior)
	if err != nil {
		return cni.Link{}, p, err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return cni.Link{}, p, err
	}
	if c.InPod || p.Index == 0 {
		p, err = c.latePrior(ctx, conn)
	}
	var l netns.Link
	if err == nil {
		l, err = conn.Create(ctx, c.spec(r.Attachment, p))
	}
	if err == nil && !c.InPod {
		err = known(ns)
	}
	return cni.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU}, p, errors.Join(err, conn.Close())
}

// known makes the host see into ns from now on, so that later refusals can name
// the child made there.
func known(ns *os.File) error {
	conn, err := netns.Dial(nil)
	if err != nil {
		return err
	}
	return errors.Join(conn.Know(ns), conn.Close())
}

// latePrior finds the parent at the time of Attach: in the pod, or on the host
// for callers without a journal.
func (c Child) latePrior(ctx context.Context, pod *netns.Conn) (Parent, error) {
	if c.InPod {
		return c.parent(pod)
	}
	return c.Prior(ctx)
}

func (c Child) spec(a cni.Attachment, p Parent) netns.Spec {
	return netns.Spec{
		Name: a.IfName, Kind: c.Kind, Data: c.Data,
		Parent: p.Index, ParentInHost: !c.InPod,
		Mark: mark(a),
		Setup: netns.Setup{
			MAC: c.MAC, MTU: c.MTU, Up: true,
			Addresses: a.Addresses, Routes: c.Routes, Vouched: a.Vouched,
		},
	}
}

func mark(a cni.Attachment) string { return netns.Mark(a.ContainerID, a.Network, a.IfName) }

// owner says which link of kind belongs to r.
func owner(r cni.Record, kind string) netns.Owner {
	return netns.Owner{Name: r.Attachment.IfName, Kind: kind, Mark: mark(r.Attachment), Index: r.Link.Index}
}

// Detach removes the link of kind that r owns from ns, and logs that it did. It is
// what the Detach of a kind without anything on the host is; see Remove.
func Detach(ctx context.Context, ns *os.File, r cni.Record, kind string, log *slog.Logger) error {
	removed, err := Remove(ctx, ns, r, kind)
	if removed {
		a := r.Attachment
		log.InfoContext(ctx, kind+" removed", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network)
	}
	return err
}

// Remove removes the link of kind that r owns from ns and reports whether there
// was one. A namespace that is gone (nil) took it along. It looks at nothing on
// the host.
func Remove(ctx context.Context, ns *os.File, r cni.Record, kind string) (bool, error) {
	if ns == nil {
		return false, nil
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return false, err
	}
	removed, err := conn.Remove(ctx, owner(r, kind))
	return removed, errors.Join(err, conn.Close())
}

// Explain turns what the kernel said about the child into a refusal, where it is
// about something that was asked for. Other errors come back as they are.
func (c Child) Explain(err error, a cni.Attachment, p Parent) error {
	if errors.Is(err, netns.ErrNameTaken) {
		return refusal.New(fmt.Sprintf("pod %q", a.Pod), "interface", a.IfName,
			fmt.Sprintf("a name that no link in the pod has yet; network %q wants this one", a.Network)).Because(netns.ErrNameTaken)
	}
	var e *netns.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Op == "create":
		return c.explainCreate(e, p)
	case e.Op == "route" && (e.Errno == unix.ENETUNREACH || e.Errno == unix.EHOSTUNREACH || e.Errno == unix.EINVAL):
		return refusal.New(c.Object, "ipam.routes", e.Object, "routes whose gateway is in a subnet of the interface's own addresses").Because(err)
	}
	return err
}

func (c Child) explainCreate(e *netns.Error, p Parent) error {
	switch e.Errno {
	case unix.ENODEV:
		return refusal.New(c.Object, "master", p.Name, "a link that exists; it went away during this attach").Because(e)
	case unix.EADDRNOTAVAIL:
		return refusal.New(c.Object, "mac", c.MAC, "a unicast hardware address other than zero").Because(e)
	case unix.EINVAL, unix.ERANGE:
		if now, err := c.mtuNow(p); err == nil && c.MTU > now {
			return refusal.New(c.Object, "mtu", c.MTU, fmt.Sprintf("0..%d, the MTU of master %s", now, p.Name)).Because(e)
		}
	case unix.EOPNOTSUPP:
		return refusal.New(c.Object, "type", c.Kind, "a kind that this node's kernel has; load the module "+c.Kind).Because(e)
	}
	return e
}

// mtuNow reads the MTU that the parent has by now, if it is on the host.
func (c Child) mtuNow(p Parent) (int, error) {
	if c.InPod {
		return p.MTU, nil
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return 0, err
	}
	l, err := conn.LinkByIndex(p.Index)
	return l.MTU, errors.Join(err, conn.Close())
}

// Children returns the links of a kind that ride on a parent on the host, as far
// as they can be seen: it asks every namespace that the host's knows.
func Children(p Parent, kind string) []netns.Link {
	if p.inPod {
		return nil
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return nil
	}
	links, err := conn.Children(p.Index, kind)
	if errors.Join(err, conn.Close()) != nil {
		return nil
	}
	return links
}

// Users says in words which links of a kind ride on the parent, for refusals;
// "" if none can be seen.
func Users(p Parent, kind string) string { return Names(Children(p, kind)) }
