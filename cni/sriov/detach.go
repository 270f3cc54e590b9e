package sriov

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Detach implements cni.Driver. It returns nil when the VF was seen on the host
// under its name (or its spare one), with its MAC, its MTU and everything that
// the attachment had set on the PF as recorded; or when the VF does not exist any
// more; or when it is not, and never was, this record's. Every part is tried, and
// the errors are joined.
func (d *Driver) Detach(ctx context.Context, ns *os.File, r cni.Record) error {
	if len(r.Prior) == 0 {
		return nil // Attach is never called without it
	}
	p, err := decode(r)
	if err != nil {
		return err
	}
	v, err := d.fs.VF(p.VF)
	switch {
	case errors.Is(err, sysfs.ErrAbsent), errors.Is(err, sysfs.ErrNotVF), err == nil && (v.PF != p.PF || v.Index != p.Index):
		d.log.InfoContext(ctx, "VF does not exist any more, nothing to give back", d.keys(r, p)...)
		return nil
	case err != nil:
		return fmt.Errorf("detach VF %s: %w", p.VF, err)
	}
	if v.Driver != p.Driver {
		// A device that its driver left took name, MAC and MTU with it.
		err = errors.Join(d.restorePF(ctx, p), d.restoreDriver(ctx, r, p))
	} else if p.userspace() {
		err = d.restorePF(ctx, p)
	}
	if err == nil && !p.userspace() {
		err = d.detachNetdev(ctx, own(ns, r), r, p)
	}
	if err != nil {
		return fmt.Errorf("detach VF %s: %w", p.VF, err)
	}
	return nil
}

// own returns ns if it is the record's namespace, and nil if it is another one
// that took over the path: that one's devices are not ours.
func own(ns *os.File, r cni.Record) *os.File {
	if ns == nil {
		return nil
	}
	is, err := netns.Identify(ns)
	was := r.Attachment.Netns
	if err != nil || was.Inode != 0 && (is.Inode != was.Inode || is.Device != was.Device) {
		return nil
	}
	return ns
}

func (d *Driver) detachNetdev(ctx context.Context, ns *os.File, r cni.Record, p prior) error {
	host, err := netns.Dial(nil)
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	l, err := d.fetch(ctx, host, ns, r, p)
	if errors.Is(err, errNotOurs) {
		d.log.InfoContext(ctx, "VF is not this attachment's, left alone", d.keys(r, p)...)
		return nil
	}
	if err != nil {
		return err
	}
	if l.Alias != markOf(r) && len(d.differences(host, l, p)) == 0 && (r.Phase != cni.Attached || len(netns.ForeignAltNames(l, p.AltNames)) == 0) {
		return nil // untouched, or restored before
	}
	n := netdev{conn: host, index: l.Index}
	if err := errors.Join(d.restoreNetdev(ctx, n, l, r, p), d.restoreRest(ctx, p)); err != nil {
		return err
	}
	if l, err = host.LinkByIndex(l.Index); err != nil {
		return err
	}
	if bad := d.differences(host, l, p); len(bad) > 0 {
		return fmt.Errorf("not at its baseline yet: %s", strings.Join(bad, "; "))
	}
	if p.Up {
		if err := n.setUp(); err != nil {
			return err
		}
	}
	if err := n.setAlias(p.Alias); err != nil {
		return err
	}
	d.log.InfoContext(ctx, "VF given back", d.keys(r, p)...)
	return nil
}

// errNotOurs says that the VF is with somebody else and that the record's
// attachment never had it.
var errNotOurs = errors.New("the VF is not this attachment's")

// fetch returns the VF's network device once it is on the host: it may be there,
// be in the pod, from where it is moved, or be on its way from a namespace that
// ended.
func (d *Driver) fetch(ctx context.Context, host *netns.Conn, ns *os.File, r cni.Record, p prior) (netns.Link, error) {
	var l netns.Link
	name := p.Netdev
	err := until(ctx, homecoming, func() (bool, error) {
		var err error
		if l, err = d.onHost(host, p.VF); err == nil {
			return true, owned(l, r, false)
		}
		if ns == nil || !errors.Is(err, netns.ErrNotFound) {
			return false, ignore(err, netns.ErrNotFound)
		}
		if l, err = inPod(ns, p.VF); err != nil {
			if errors.Is(err, netns.ErrNotFound) && r.Phase != cni.Attached {
				return false, errNotOurs
			}
			return false, ignore(err, netns.ErrNotFound)
		}
		if err := owned(l, r, true); err != nil {
			return false, err
		}
		err = send(ns, l, name, p)
		if errors.Is(err, netns.ErrNameTaken) {
			name = spareName(p.VF)
		}
		// EEXIST: it arrived, under its old name. ENODEV: it left by itself.
		return false, ignore(err, netns.ErrNameTaken, unix.EEXIST, unix.ENODEV)
	})
	if errors.Is(err, errNotYet) {
		return netns.Link{}, fmt.Errorf("its network device is neither on the host nor in the pod %w", err)
	}
	return l, err
}

// owned decides by the mark whether the device is the record's. Before it was
// attached no container ran that could have changed the mark: it is believed as it
// is. Afterwards a pod with the right to do so may have taken it off or forged it:
// what is in the pod's own namespace is the record's in any case, and on the host
// a foreign mark keeps the record, but a missing one does not. A device without a
// mark on the host was never touched, or restored, or lost its mark with its
// driver; comparing shows which.
func owned(l netns.Link, r cni.Record, inPod bool) error {
	switch {
	case l.Alias == markOf(r), inPod && r.Phase == cni.Attached, !inPod && !marked(l):
		return nil
	case r.Phase != cni.Attached:
		return errNotOurs
	}
	return fmt.Errorf("%s belongs to %q now", l.Name, l.Alias)
}

// send moves a device from the pod to the host, without the alternative names that
// it got in the pod: one that is taken on the host would keep it there.
func send(ns *os.File, l netns.Link, name string, p prior) error {
	if err := netns.DropAltNames(ns, l, p.AltNames); err != nil {
		return err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Move(l.Index, nil, netns.Target{Name: name})
}

// ignore returns nil if err is one of those.
func ignore(err error, those ...error) error {
	for _, e := range those {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// restoreNetdev gives the device its names, MTU and MAC.
func (d *Driver) restoreNetdev(ctx context.Context, n netdev, l netns.Link, r cni.Record, p prior) error {
	if err := n.down(l); err != nil {
		return err
	}
	name, err := n.rename(p.Netdev, spareName(p.VF))
	errs := []error{err}
	if err == nil && name != p.Netdev {
		d.log.WarnContext(ctx, "the VF's name is taken on the host, it has another one now", append(d.keys(r, p), "name", p.Netdev, "now", name)...)
	}
	errs = append(errs, netns.RestoreAltNames(l.Index, p.AltNames))
	if l.MTU != p.MTU {
		errs = append(errs, n.setMTU(p.MTU))
	}
	errs = append(errs, n.setFilters(l, p))
	t, err := d.target(p)
	if err == nil {
		err = restoreMAC(ctx, t, link.Kernel(t), n, p)
	}
	return errors.Join(append(errs, err)...)
}

// restoreRest gives back what the attachment set on the PF besides the MAC. The
// rates go alone: some drivers refuse them, 0 included, while the PF has no link,
// and that must not hold up the others.
func (d *Driver) restoreRest(ctx context.Context, p prior) error {
	u := p.undo()
	if u.Empty() {
		return nil
	}
	t, err := d.target(p)
	if err != nil {
		return err
	}
	rates := link.Change{Rates: u.Rates}
	u.Rates = nil
	return errors.Join(link.Apply(ctx, t, u), link.Apply(ctx, t, rates))
}

// restoreDriver gives the VF the driver back that it had. Nobody else may have
// taken it away: the VF was the attachment's own.
func (d *Driver) restoreDriver(ctx context.Context, r cni.Record, p prior) error {
	if err := d.fs.Bind(ctx, p.VF, p.Driver); err != nil {
		return err
	}
	d.log.InfoContext(ctx, "VF has its driver back", append(d.keys(r, p), "driver", p.Driver)...)
	return nil
}

// restorePF is all that there is to restore without a network device.
func (d *Driver) restorePF(ctx context.Context, p prior) error {
	if len(p.Asked) == 0 || p.Attributes == nil {
		return nil
	}
	t, err := d.target(p)
	if err != nil {
		return err
	}
	if p.asked(link.FieldMAC) {
		err = restorePFMAC(ctx, t, link.Kernel(t), p)
	}
	return errors.Join(err, d.restoreRest(ctx, p))
}

// differences lists what separates the VF from its baseline, in words.
func (d *Driver) differences(host *netns.Conn, l netns.Link, p prior) []string {
	var bad []string
	differ := func(what string, now, was any) {
		if now != was {
			bad = append(bad, fmt.Sprintf("%s is %v (was %v)", what, now, was))
		}
	}
	differ("MAC", l.MAC, p.MAC)
	differ("MTU", l.MTU, p.MTU)
	differ("promisc", l.Flags&unix.IFF_PROMISC != 0, p.Promisc)
	differ("allmulti", l.Flags&unix.IFF_ALLMULTI != 0, p.Allmulti)
	if l.Name != p.Netdev {
		if _, err := host.LinkByName(p.Netdev); l.Name != spareName(p.VF) || err != nil {
			differ("name", l.Name, p.Netdev)
		}
	}
	if len(p.Asked) == 0 || p.Attributes == nil {
		return bad
	}
	t, err := d.target(p)
	if err != nil {
		return append(bad, err.Error())
	}
	seen, err := link.Read(t)
	if err != nil {
		return append(bad, err.Error())
	}
	u := p.undo()
	if p.asked(link.FieldMAC) {
		u.MAC = &p.Attributes.MAC
	}
	return append(bad, link.Missing(seen, u)...)
}
