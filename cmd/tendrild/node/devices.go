package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// devices answers which devices a pod holds: the kubelet says which, the
// daemon's own record of Allocate says in which order and is the check.
type devices struct {
	kubelet     *podresources.Client
	allocations *deviceplugin.Allocations
	log         *slog.Logger
}

// Devices implements cni.Devices.
func (d devices) Devices(ctx context.Context, pod cni.PodRef) (map[string][]string, error) {
	held, err := d.kubelet.Devices(ctx, pod.Namespace, pod.Name)
	if err != nil {
		return nil, err
	}
	for resource, ids := range held {
		held[resource] = d.ordered(pod, resource, ids)
	}
	return held, nil
}

// ordered puts the ids of one resource into the order in which they were
// allocated, container by container as the kubelet lists them.
func (d devices) ordered(pod cni.PodRef, resource string, ids []string) []string {
	var out []string
	for _, id := range ids {
		if slices.Contains(out, id) {
			continue
		}
		a, ok := d.allocations.Last(id)
		if !ok || a.Resource != resource {
			// Allocated before this daemon was there, or by another plugin: the
			// kubelet's word holds.
			d.log.Warn("device held by the pod was not allocated by this daemon", "pod", pod, "resource", resource, "pci", id)
			out = append(out, id)
			continue
		}
		for _, other := range a.IDs {
			if slices.Contains(ids, other) && !slices.Contains(out, other) {
				out = append(out, other)
			}
		}
	}
	return out
}

// remember keeps an Allocate in the journal, one line a device, so that a
// restarted daemon still knows it.
func remember(j *journal.Journal, log *slog.Logger) func(deviceplugin.Allocation) {
	return func(a deviceplugin.Allocation) {
		err := j.Update("allocate", func(tx *journal.Tx) error {
			data, err := json.Marshal(a)
			if err != nil {
				return err
			}
			for _, id := range a.IDs {
				if err := tx.Bucket(journal.Allocations).Put([]byte(id), data); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			// The kubelet has decided; podresources will tell the same.
			log.Warn("allocation is not in the journal", "resource", a.Resource, "devices", a.IDs, "error", err)
		}
	}
}

// recall fills the allocations from the journal.
func recall(j *journal.Journal, into *deviceplugin.Allocations) error {
	var all []deviceplugin.Allocation
	err := j.View(func(tx *journal.Tx) error {
		return tx.Bucket(journal.Allocations).ForEach(func(k, v []byte) error {
			var a deviceplugin.Allocation
			if err := json.Unmarshal(v, &a); err != nil {
				return fmt.Errorf("decode allocation of %s: %w", k, err)
			}
			// One line stands for one device: the other ids of the call may have
			// been allocated anew since, and then have a line of their own.
			all = append(all, a)
			return nil
		})
	})
	slices.SortFunc(all, func(a, b deviceplugin.Allocation) int { return a.Time.Compare(b.Time) })
	for _, a := range all {
		into.Add(a)
	}
	return err
}

// scanned is the inventory as the device plugin wants it: nothing before the
// first scan, so that no pool is ever announced empty by mistake.
type scanned struct{ *sysfs.Inventory }

// Snapshot implements deviceplugin.Inventory.
func (s scanned) Snapshot() *vf.Snapshot {
	if snap := s.Inventory.Snapshot(); snap.Generation > 0 {
		return snap
	}
	return nil
}

// pools reads the device pools; no file means none.
func pools(path string) (deviceplugin.Config, error) {
	if path == "" {
		return deviceplugin.Config{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return deviceplugin.Config{}, fmt.Errorf("read device pools: %w", err)
	}
	defer f.Close()
	return deviceplugin.Parse(io.Reader(f), path, defaultPrefix)
}

// defaultPrefix is that of the SR-IOV network device plugin: configurations that
// leave it out keep the resource names that pods ask for.
const defaultPrefix = "intel.com"
