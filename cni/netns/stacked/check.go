package stacked

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

// Check compares the child of r with the kernel: name, state, MAC, MTU, the
// addresses, the routes, and the parent while it is on the host.
func (c Child) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ns == nil {
		return netns.ErrGone
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	err = conn.Check(netns.Expected{
		Owner: owner(r, c.Kind), MAC: r.Link.MAC, MTU: r.Link.MTU, Addresses: r.Attachment.Addresses, Routes: c.Routes, AnyTable: r.Rerouted(),
	})
	return errors.Join(err, conn.Close(), c.checkParent(r))
}

// checkParent looks whether the parent that Prior recorded is still there and up:
// without it the child carries nothing.
func (c Child) checkParent(r cni.Record) error {
	p, err := Recorded(r.Prior)
	if err != nil || c.InPod || p.Index == 0 {
		return err
	}
	conn, err := netns.Dial(nil)
	if err != nil {
		return err
	}
	l, err := conn.LinkByIndex(p.Index)
	switch {
	case err != nil:
		err = fmt.Errorf("master %s: %w", p.Name, err)
	case !l.Up():
		err = fmt.Errorf("master %s is down, want up", l.Name)
	}
	return errors.Join(err, conn.Close())
}
