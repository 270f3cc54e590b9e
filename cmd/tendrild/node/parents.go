package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
)

// rewatch is the pause before the host's links are watched again after the watch
// itself broke.
const rewatch = time.Second

// watchParents looks after the links that pods' interfaces ride on, until ctx
// ends.
func (d *daemon) watchParents(ctx context.Context) error {
	w := stacked.Watcher{Records: d.engine.Records, Repair: d.mend, Report: d.tellParent, Log: d.Log}
	for {
		err := w.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.Log.Warn("host's links are not watched; trying again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatch):
		}
	}
}

// mend implements stacked.Watcher.Repair.
func (d *daemon) mend(ctx context.Context, f stacked.Finding) error {
	return d.engine.Mend(ctx, f.Record, func(ctx context.Context, ns *os.File, driver cni.Driver, r cni.Record) (cni.Record, error) {
		f.Record = r
		return stacked.Mend(ctx, ns, driver, f)
	})
}

// tellParent implements stacked.Watcher.Report.
func (d *daemon) tellParent(f stacked.Finding, err error) {
	a := f.Record.Attachment
	text := fmt.Sprintf("interface %s of network %s: %s", a.IfName, a.Network, toldOf(f, err))
	d.Log.Warn("link below an interface of a pod changed", "pod", a.Pod, "container", a.ContainerID, "ifname", a.IfName, "network", a.Network, "parent", f.Parent.Name, "change", f.Change, "repaired", err == nil)
	if report, ok := d.Report.(cni.Plugged); ok && a.Pod.Name != "" {
		report.Missing(a.Pod, text)
	}
}

// toldOf says in words what happened and what becomes of it.
func toldOf(f stacked.Finding, err error) string {
	switch {
	case f.Change == stacked.Vanished:
		return fmt.Sprintf("its master %s on the host is gone, and the interface with it; it is made anew when the master is back", f.Parent.Name)
	case f.Change == stacked.Shrunk:
		return fmt.Sprintf("the MTU of its master %s fell to %d, below the %d that the interface had; it gets that back when the master does", f.Parent.Name, f.Parent.MTU, f.Record.Link.MTU)
	case err != nil:
		return fmt.Sprintf("its master %s is back, and the interface is not yet: %v", f.Parent.Name, err)
	case f.Change == stacked.Grown:
		return fmt.Sprintf("the MTU of its master %s is back, and its own too", f.Parent.Name)
	}
	return fmt.Sprintf("its master %s is back; the interface is made anew with the address that it had", f.Parent.Name)
}
