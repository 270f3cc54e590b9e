package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Returned reports whether the VF of an attached record is back on the host
// without having been given back: its pod's namespace ended, and the kernel
// returned the VF under the name, MAC and MTU that it had inside, still on the
// pod's VLAN. Detach then puts it in order; the record may stay for the DEL that
// the runtime owes.
func (d *Driver) Returned(r cni.Record) (bool, error) {
	if r.Phase != cni.Attached || len(r.Prior) == 0 {
		return false, nil
	}
	p, err := decode(r)
	if err != nil || p.userspace() {
		return false, err
	}
	v, err := d.fs.VF(p.VF)
	switch {
	case errors.Is(err, sysfs.ErrAbsent), errors.Is(err, sysfs.ErrNotVF):
		return false, nil
	case err != nil:
		return false, err
	case v.PF != p.PF || v.Index != p.Index || v.Netdev == "":
		return false, nil
	}
	host, err := netns.Dial(nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = host.Close() }()
	l, err := d.onHost(host, p.VF)
	if errors.Is(err, netns.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Without a mark it was put in order before, or lost the mark in the pod.
	return l.Alias == markOf(r) || !marked(l) && len(d.differences(host, l, p)) > 0, nil
}

// Watch looks after each change, and at the start, for records whose VF has
// Returned, and hands each to giveBack, which must take the record's lock and run
// Detach without a namespace. An error of giveBack is logged; the VF is looked at
// again after the next change. Watch ends with ctx and then returns nil.
func (d *Driver) Watch(ctx context.Context, changes <-chan struct{}, records func() ([]cni.Record, error), giveBack func(context.Context, cni.Record) error) error {
	for {
		if err := d.sweep(ctx, records, giveBack); err != nil && ctx.Err() == nil {
			d.log.Warn("VFs that came back by themselves are not looked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
}

func (d *Driver) sweep(ctx context.Context, records func() ([]cni.Record, error), giveBack func(context.Context, cni.Record) error) error {
	all, err := records()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range all {
		if r.Attachment.Kind != cni.KindSriov {
			continue
		}
		back, err := d.Returned(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !back {
			continue
		}
		d.log.Warn("VF came back to the host by itself: its pod's namespace is gone", "pod", r.Attachment.Pod, "container", r.Attachment.ContainerID, "pci", r.Attachment.Device)
		if err := giveBack(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("give back VF %s: %w", r.Attachment.Device, err))
		}
	}
	return errors.Join(errs...)
}

// Restore is Detach for a record that was stored as note (its JSON), with the
// record's own namespace if that is still there: what brings a VF out of
// quarantine.
func (d *Driver) Restore(ctx context.Context, note json.RawMessage) error {
	var r cni.Record
	if err := json.Unmarshal(note, &r); err != nil {
		return fmt.Errorf("read the note of a VF in quarantine: %w", err)
	}
	ns, err := open(r.Attachment.Netns.Path)
	if err != nil {
		return err
	}
	if ns != nil {
		defer func() { _ = ns.Close() }()
	}
	return d.Detach(ctx, ns, r)
}

// open returns nil for a namespace that is gone.
func open(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	ns, err := netns.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return ns, err
}
