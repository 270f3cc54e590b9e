package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bond"
	"github.com/tendril-cni/tendril/cni/hostdevice"
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
	now := time.Now()
	for _, a := range all {
		if a.Time.After(now) {
			a.Time = now // the clock was set back
		}
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

// defaultPrefix is that of the SR-IOV network device plugin: configurations that
// leave it out keep the resource names that pods ask for.
const defaultPrefix = "intel.com"

// Where other programs on the node look for what describes devices (Device
// Information Specification, section "Device plugin"; CDI, SPEC.md).
const (
	deviceInfoDir = "/var/run/k8s.cni.cncf.io/devinfo/dp"
	cdiDir        = "/var/run/cdi"
)

// offer is the device plugin with the file that its pools come from.
type offer struct {
	plugin *deviceplugin.Plugin
	file   *deviceplugin.File
	log    *slog.Logger
}

// offerOptions are what differs from node to node, or comes from other parts.
type offerOptions struct {
	// File, KubeletRoot and StateDir are the flags of the same names.
	File, KubeletRoot, StateDir string
	// CDI gives containers their device nodes by CDI (--use-cdi).
	CDI bool
	// Unfit and Resources are those of deviceplugin.Options; nil for none.
	Unfit     func(vf.Addr) string
	Resources func() []deviceplugin.Resource
}

// newOffer makes the device plugin, with the allocations that an earlier process
// has noted. A bad file is no error: what was good before is served, and why is
// logged and shown in the metrics and the page.
func newOffer(o offerOptions, inv *sysfs.Inventory, j *journal.Journal, kubelet *podresources.Client, log *slog.Logger) (*offer, error) {
	file, conf := deviceplugin.OpenFile(deviceplugin.FileOptions{
		Path: o.File, Prefix: defaultPrefix, Good: filepath.Join(o.StateDir, "pools.json"), Optional: true, Log: log,
	})
	options := deviceplugin.Options{
		KubeletRoot: o.KubeletRoot, Config: conf, Inventory: scanned{inv}, Log: log,
		Resources: o.Resources, Holdings: holdings(kubelet, j), HostOwns: hostOwns, Unfit: o.Unfit,
		OnAllocate: remember(j, log), DeviceInfoDir: deviceInfoDir, Dev: hostDev(),
	}
	if o.CDI {
		options.CDIDir = cdiDir
	}
	plugin, err := deviceplugin.New(options)
	if err != nil {
		return nil, err
	}
	return &offer{plugin: plugin, file: file, log: log}, recall(j, plugin.Allocations())
}

// hostDev is where the host's device nodes are. A container's own /dev shows those
// that were there when it started, so the manifest mounts the host's beside it.
func hostDev() string {
	const mounted = "/host/dev"
	if info, err := os.Stat(mounted); err == nil && info.IsDir() {
		return mounted
	}
	return "/dev"
}

// Run serves the kubelet and follows the file until ctx ends.
func (o *offer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.plugin.Run(ctx) })
	g.Go(func() error { return o.file.Run(ctx, o.plugin.Reload) })
	return g.Wait()
}

// holdings tells who has which device: all pods by the kubelet's word, whichever
// device plugin served them, and all attachments in the journal.
func holdings(kubelet *podresources.Client, j *journal.Journal) func(context.Context) ([]deviceplugin.Holding, error) {
	return func(ctx context.Context) ([]deviceplugin.Holding, error) {
		held, err := kubelet.All(ctx)
		if err != nil {
			return nil, err
		}
		list, err := attached(j)
		for _, h := range held {
			list = append(list, deviceplugin.Holding{
				ID: h.ID, Resource: h.Resource, Owner: "pod " + cni.PodRef{Namespace: h.Namespace, Name: h.Pod}.String(),
			})
		}
		return list, err
	}
}

// attached lists the devices of attachments.
func attached(j *journal.Journal) ([]deviceplugin.Holding, error) {
	var list []deviceplugin.Holding
	err := j.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			var r cni.Record
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return fmt.Errorf("decode record %s/%s: %w", e.Container, e.IfName, err)
			}
			ids, err := held(r)
			if err != nil {
				return err
			}
			for _, id := range ids {
				list = append(list, deviceplugin.Holding{ID: id, Resource: r.Attachment.Resource, Owner: "pod " + r.Attachment.Pod.String()})
			}
		}
		return nil
	})
	return list, err
}

// held are the devices of one attachment: the one that it was given, or those that
// its network names by itself.
func held(r cni.Record) ([]string, error) {
	switch {
	case r.Attachment.Device != "":
		return []string{r.Attachment.Device}, nil
	case r.Attachment.Kind == cni.KindHostDevice:
		return hostdevice.Held(r)
	case r.Attachment.Kind == cni.KindBond:
		return bond.Held(r)
	}
	return nil, nil
}

// ServeHTTP prints the pools, what is wrong with devices, and what is wrong with
// the configuration, for a person.
func (o *offer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for what, err := range o.wrong() {
		if err != nil {
			fmt.Fprintf(w, "%s refused: %v\n", what, err)
		}
	}
	for _, p := range o.plugin.Pools() {
		fmt.Fprintf(w, "%s %s %s %d\n", p.Name(), p.Resource.Type, p.Resource.Policy, len(p.Devices))
		for _, d := range p.Devices {
			fmt.Fprintf(w, "  %s %s %s\n", d.ID, cmp.Or(d.Driver, "-"), cmp.Or(d.Cause, "healthy"))
		}
	}
}

// wrong is why configuration is not in force, by where it comes from; nil where
// it is.
func (o *offer) wrong() map[string]error {
	return map[string]error{"file": o.file.Err(), "policies": o.plugin.Refused()}
}

var (
	devicesDesc = prometheus.NewDesc("tendril_pool_devices", "Devices offered to the kubelet, by resource and health.", []string{"resource", "health"}, nil)
	refusedDesc = prometheus.NewDesc("tendril_pool_config_refused", "1 while the newest configuration of pools from this source is not in force.", []string{"source"}, nil)
)

// Describe implements prometheus.Collector.
func (o *offer) Describe(c chan<- *prometheus.Desc) {
	c <- devicesDesc
	c <- refusedDesc
}

// Collect implements prometheus.Collector.
func (o *offer) Collect(c chan<- prometheus.Metric) {
	for source, err := range o.wrong() {
		var value float64
		if err != nil {
			value = 1
		}
		c <- prometheus.MustNewConstMetric(refusedDesc, prometheus.GaugeValue, value, source)
	}
	for _, p := range o.plugin.Pools() {
		healthy := 0
		for _, d := range p.Devices {
			if d.Healthy() {
				healthy++
			}
		}
		c <- prometheus.MustNewConstMetric(devicesDesc, prometheus.GaugeValue, float64(healthy), p.Name(), "healthy")
		c <- prometheus.MustNewConstMetric(devicesDesc, prometheus.GaugeValue, float64(len(p.Devices)-healthy), p.Name(), "unhealthy")
	}
}
