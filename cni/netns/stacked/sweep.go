package stacked

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
)

// sweepable are the kinds whose link in the pod goes with nothing else to give
// back first, and the kernel's name of that link's driver.
var sweepable = map[string]string{"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "vlan", "bridge": "veth"}

// Sweep deletes the links of all records of one pod that can go at once, with
// one message, for the price of one deletion. It is a first step and not the
// undo: the caller runs Detach for every record afterwards as ever, which finds
// these links absent and does the rest. A pod with fewer than two such links, or
// whose namespace is gone (nil), has nothing to gain.
func Sweep(ctx context.Context, ns *os.File, records []cni.Record, log *slog.Logger) error {
	var owners []netns.Owner
	for _, r := range records {
		if kind, ok := sweepable[r.Attachment.Kind]; ok {
			owners = append(owners, owner(r, kind))
		}
	}
	if ns == nil || len(owners) < 2 {
		return nil
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	gone, err := conn.RemoveAll(ctx, owners)
	for _, l := range gone {
		a := records[0].Attachment
		log.InfoContext(ctx, l.Kind+" removed", "pod", a.Pod.String(), "container", a.ContainerID, "ifname", l.Name)
	}
	return errors.Join(err, conn.Close())
}
