package sriov

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Driver serves attachments of kind sriov. It holds no state about them.
type Driver struct {
	fs   *sysfs.FS
	log  *slog.Logger
	busy func(vf.Addr) string
}

var _ cni.Driver = (*Driver)(nil)

// Option changes how a Driver works.
type Option func(*Driver)

// Busy makes Attach refuse VFs that somebody works on: busy says what is being
// done to a VF, "" for nothing. It is asked when the caller's record of the
// attachment already shows that the VF is in use, so whoever looks there before
// working on a VF, and Attach, cannot miss each other.
func Busy(busy func(vf.Addr) string) Option { return func(d *Driver) { d.busy = busy } }

// New returns the driver of the VFs that fs shows. fs must be the sysfs of the
// network namespace that the process is in.
func New(fs *sysfs.FS, log *slog.Logger, options ...Option) *Driver {
	d := &Driver{fs: fs, log: log, busy: func(vf.Addr) string { return "" }}
	for _, o := range options {
		o(d)
	}
	return d
}

// Attach implements cni.Driver. It sets the PF's side, then the MAC, then the MTU,
// moves the VF's network device into ns under its final name by one message, and
// configures it there. For a VF on a userspace driver the PF's side is all: its
// Link has the MAC asked for, or else the one that the PF has set, the PF's MTU
// and no index, and addresses are reported by the caller and configured by
// nobody, as sriov-cni does.
func (d *Driver) Attach(ctx context.Context, ns *os.File, r cni.Record) (cni.Link, error) {
	w, err := want(r.Attachment)
	if err != nil {
		return cni.Link{}, err
	}
	p, err := decode(r)
	if err != nil {
		return cni.Link{}, err
	}
	if what := d.busy(p.VF); what != "" {
		return cni.Link{}, fmt.Errorf("attach VF %s: it is busy now: %s", p.VF, what)
	}
	if p.userspace() {
		l, err := d.configureUserspace(ctx, r, p, w)
		if err != nil {
			return cni.Link{}, fmt.Errorf("attach VF %s: %w", p.VF, err)
		}
		return l, nil
	}
	l, err := d.attachNetdev(ctx, ns, r, p, w)
	if err != nil {
		return cni.Link{}, fmt.Errorf("attach VF %s: %w", p.VF, err)
	}
	return l, nil
}

func (d *Driver) configureUserspace(ctx context.Context, r cni.Record, p prior, w wanted) (cni.Link, error) {
	t, err := d.target(p)
	if err != nil {
		return cni.Link{}, err
	}
	change := w.change()
	if w.MAC != "" {
		change.MAC = &w.MAC
	}
	if err := link.Apply(ctx, t, change); err != nil {
		return cni.Link{}, err
	}
	pf, err := d.fs.PF(p.PF)
	if err != nil {
		return cni.Link{}, err
	}
	l := cni.Link{Name: r.Attachment.IfName, MAC: w.MAC, MTU: pf.MTU, PCI: p.VF.String()}
	if l.MAC == "" && p.Attributes != nil && p.Attributes.MAC != link.ZeroMAC {
		l.MAC = p.Attributes.MAC
	}
	d.log.InfoContext(ctx, "VF configured for a userspace driver", d.keys(r, p)...)
	return l, nil
}

func (d *Driver) attachNetdev(ctx context.Context, ns *os.File, r cni.Record, p prior, w wanted) (cni.Link, error) {
	host, err := netns.Dial(nil)
	if err != nil {
		return cni.Link{}, err
	}
	defer func() { _ = host.Close() }()
	l, err := d.onHost(host, p.VF)
	if err != nil {
		return cni.Link{}, err
	}
	mark := markOf(r)
	if marked(l) && l.Alias != mark {
		return cni.Link{}, fmt.Errorf("take %s: it belongs to %q", l.Name, l.Alias)
	}
	n := netdev{conn: host, index: l.Index}
	if err := n.setAlias(mark); err != nil {
		return cni.Link{}, err
	}
	if err := d.configureHost(ctx, n, l, p, w); err != nil {
		return cni.Link{}, err
	}
	err = host.Move(l.Index, ns, netns.Target{Name: r.Attachment.IfName})
	if errors.Is(err, netns.ErrNameTaken) {
		err = refusal.New(object(r.Attachment), "interface", r.Attachment.IfName, "a name that no other link of the pod has").Because(err)
	}
	if err != nil {
		return cni.Link{}, err
	}
	seen, err := d.configurePod(ctx, ns, r, p, w)
	if err != nil {
		return cni.Link{}, err
	}
	d.log.InfoContext(ctx, "VF attached", append(d.keys(r, p), "mac", seen.MAC, "mtu", seen.MTU)...)
	return cni.Link{Name: seen.Name, Index: seen.Index, MAC: seen.MAC, MTU: seen.MTU, PCI: p.VF.String()}, nil
}

// configureHost does everything that is done while the VF is on the host. The
// VLAN comes first: nothing that follows may leave the VF on the wrong network.
func (d *Driver) configureHost(ctx context.Context, n netdev, l netns.Link, p prior, w wanted) error {
	if len(p.Asked) > 0 {
		t, err := d.target(p)
		if err != nil {
			return err
		}
		change := w.change()
		if err := link.Apply(ctx, t, link.Change{VLAN: change.VLAN}); err != nil {
			return err
		}
		if w.MAC != "" {
			// Not every driver changes the MAC of a device that is up.
			if err := n.down(l); err != nil {
				return err
			}
			if err := giveMAC(ctx, t, link.Kernel(t), n, w.MAC); err != nil {
				return err
			}
		}
		change.VLAN = nil
		if err := link.Apply(ctx, t, change); err != nil {
			return err
		}
	}
	if w.MTU != 0 && w.MTU != l.MTU {
		return n.setMTU(w.MTU)
	}
	return nil
}

// configurePod gives the moved VF its addresses, brings it up and observes it.
func (d *Driver) configurePod(ctx context.Context, ns *os.File, r cni.Record, p prior, w wanted) (netns.Link, error) {
	pod, err := netns.Dial(ns)
	if err != nil {
		return netns.Link{}, err
	}
	defer func() { _ = pod.Close() }()
	l, err := pod.LinkByName(r.Attachment.IfName)
	if err != nil {
		return netns.Link{}, err
	}
	if l, err = pod.Configure(ctx, l.Index, netns.Setup{
		Addresses: r.Attachment.Addresses, Routes: r.Attachment.Routes, Up: true,
	}); err != nil {
		return netns.Link{}, err
	}
	if err := filters(ns, l.Index, w); err != nil {
		return netns.Link{}, err
	}
	// A driver may take up the PF's MAC a moment after its device came up.
	err = until(ctx, settle, func() (bool, error) {
		l, err = pod.LinkByIndex(l.Index)
		return err == nil && l.Up() && (w.MAC == "" || l.MAC == w.MAC), err
	})
	switch {
	case errors.Is(err, errNotYet):
		return netns.Link{}, fmt.Errorf("observe %s: MAC is %s, up is %v; wanted MAC %q and up", l.Name, l.MAC, l.Up(), w.MAC)
	case err != nil:
		return netns.Link{}, err
	case l.Name != r.Attachment.IfName || w.MTU != 0 && l.MTU != w.MTU || l.ParentDev != "" && l.ParentDev != p.VF.String():
		return netns.Link{}, fmt.Errorf("observe %s: name %s, MTU %d, PCI %s; wanted MTU %d, PCI %s",
			r.Attachment.IfName, l.Name, l.MTU, l.ParentDev, w.MTU, p.VF)
	}
	return l, nil
}

// target names the VF to package link, by the name that its PF has now.
func (d *Driver) target(p prior) (link.Target, error) {
	pf, err := d.fs.PF(p.PF)
	if err != nil {
		return link.Target{}, err
	}
	t := link.Target{PF: pf.Netdev, Driver: pf.Driver, Index: p.Index}
	if t.PF == "" && len(p.Asked) > 0 {
		return link.Target{}, fmt.Errorf("PF %s has no network device in the host's namespace (driver %q)", p.PF, pf.Driver)
	}
	return t, nil
}

// onHost returns the VF's network device in the host's namespace, ErrNotFound of
// package netns if it is not there.
func (d *Driver) onHost(host *netns.Conn, a vf.Addr) (netns.Link, error) {
	names, err := d.fs.Netdevs(a)
	if err != nil {
		return netns.Link{}, err
	}
	for _, name := range names {
		l, err := host.LinkByName(name)
		if err != nil || l.ParentDev != "" && l.ParentDev != a.String() {
			continue // renamed or moved since sysfs was read
		}
		return l, nil
	}
	return netns.Link{}, fmt.Errorf("find VF %s on the host: %w", a, netns.ErrNotFound)
}

// keys are the log attributes of one attachment.
func (d *Driver) keys(r cni.Record, p prior) []any {
	a := r.Attachment
	return []any{"pod", a.Pod.String(), "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "pci", p.VF.String(), "pf", p.PF.String()}
}

// Waiting: settle for a driver that is a moment late, homecoming for the kernel,
// which returns the devices of a dead namespace from a worker.
const (
	settle     = 2 * time.Second
	homecoming = 3 * time.Second
	poll       = 20 * time.Millisecond
)

var errNotYet = errors.New("not yet")

// until calls done every poll until it says true or fails, for at most limit;
// then it returns errNotYet, or ctx's error if that ended first.
func until(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	end := time.After(limit)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return errNotYet
		case <-tick.C:
		}
	}
}
