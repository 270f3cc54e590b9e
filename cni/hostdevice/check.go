package hostdevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

var _ cni.Checker = (*Driver)(nil)

// Check compares the device in ns with its record. One that user space has is
// nobody's to look at. See cni.Checker.
func (d *Driver) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	var n note
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return fmt.Errorf("read note of %s: %w", r.Attachment.IfName, err)
	}
	if err := ctx.Err(); err != nil || n.Userspace {
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
		Owner: netns.Owner{Name: r.Attachment.IfName, Kind: n.Device.Kind, Mark: mark(r.Attachment), Index: r.Link.Index},
		MAC:   r.Link.MAC, MTU: r.Link.MTU, ParentDev: n.Device.Dev, Addresses: r.Attachment.Addresses, Routes: r.Attachment.Routes, AnyTable: r.Rerouted(),
	})
	return errors.Join(err, conn.Close())
}
