package bond

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
)

var _ cni.Checker = (*Driver)(nil)

// Check compares the bond and its slaves with the record. See cni.Checker.
func (d *Driver) Check(ctx context.Context, ns *os.File, r cni.Record) error {
	conf, err := parse(r.Attachment)
	if err != nil {
		return err
	}
	c := stacked.Child{Object: stacked.Object(r.Attachment), Kind: kind, InPod: true, Routes: r.Attachment.Routes}
	if err := c.Check(ctx, ns, r); err != nil {
		return err
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	errs := []error{}
	for _, name := range conf.Links {
		l, err := conn.LinkByName(name)
		if err == nil && l.Master != r.Link.Index {
			err = fmt.Errorf("slave %s has left the bond", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, conn.Close())...)
}
