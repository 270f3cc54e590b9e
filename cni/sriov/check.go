package sriov

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/vf/link"
)

var _ cni.Checker = (*Driver)(nil)

// Check implements cni.Checker: the VF and its driver, its device in the pod, if
// it has one, and what the attachment asked of the PF.
func (d *Driver) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	w, err := want(r.Attachment)
	if err != nil {
		return err
	}
	p, err := decode(r)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.checkVF(p); err != nil {
		return err // nothing else can be there then
	}
	return errors.Join(d.checkPod(ns, r, p), d.checkPF(p, w))
}

func (d *Driver) checkVF(p prior) error {
	v, err := d.fs.VF(p.VF)
	switch {
	case err != nil:
		return err
	case v.PF != p.PF || v.Index != p.Index:
		return fmt.Errorf("VF %s is number %d of PF %s (was %d of %s)", p.VF, v.Index, v.PF, p.Index, p.PF)
	case v.Driver != p.Driver:
		return fmt.Errorf("VF %s has driver %q (was %q)", p.VF, v.Driver, p.Driver)
	}
	return nil
}

func (d *Driver) checkPod(ns *os.File, r cni.Record, p prior) error {
	if p.userspace() {
		return nil
	}
	if ns == nil {
		return netns.ErrGone
	}
	pod, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	a := r.Attachment
	err = pod.Check(netns.Expected{
		Owner:     netns.Owner{Name: a.IfName, Mark: markOf(r), Index: r.Link.Index},
		ParentDev: p.VF.String(), MAC: r.Link.MAC, MTU: r.Link.MTU, Addresses: a.Addresses, Routes: a.Routes, AnyTable: r.Rerouted(),
	})
	return errors.Join(err, pod.Close())
}

func (d *Driver) checkPF(p prior, w wanted) error {
	if len(p.Asked) == 0 {
		return nil
	}
	t, err := d.target(p)
	if err != nil {
		return err
	}
	seen, err := link.Read(t)
	if err != nil {
		return err
	}
	change := w.change()
	if w.MAC != "" {
		change.MAC = &w.MAC
	}
	if missing := link.Missing(seen, change); len(missing) > 0 {
		return fmt.Errorf("%s has lost %s", t, strings.Join(missing, ", "))
	}
	return nil
}
