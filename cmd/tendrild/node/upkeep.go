package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/loan"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
	"github.com/tendril-cni/tendril/cni/takeover"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// auditPeriod is how often the journal is compared with the pods and the kernel.
const auditPeriod = time.Minute

// Reasons of events about the node.
const (
	reasonConfRestored = "CNIConfigurationRestored"
	reasonConfShadowed = "CNIConfigurationShadowed"
)

// spoolDir is where the shim leaves DELs that find no daemon: on disk, since the
// runtime has been told that they will be done.
func (c Config) spoolDir() string { return filepath.Join(c.StateDir, "spool") }

// settings are what the CNI configuration tells the shim.
func (c Config) settings() install.Settings {
	return install.Settings{Socket: c.Socket(), Spool: c.spoolDir()}
}

// dirs are where other meta-plugins keep their state.
func (c Config) dirs() takeover.Dirs {
	return takeover.Dirs{Multus: c.MultusDir, Sriov: c.SriovDir}
}

// upkeep is what keeps a node right beside the calls of its runtime.
type upkeep struct {
	debts *debts
	desk  *loan.Desk
	fs    *sysfs.FS
	// mu guards taken.
	mu sync.Mutex
	// taken has what was taken over from another meta-plugin, by container.
	taken map[string][]cni.Attachment
	// suspects are pods that ask for networks and are unknown, since the last
	// audit: only what it finds twice can be more than a pod that is starting.
	suspects map[cni.PodRef]bool
	// over are those that were asked about and never need be again: Jobs leave their
	// pods behind, for days.
	over map[cni.PodRef]bool
}

// resume does, before the socket is served, what an earlier daemon or another
// meta-plugin left to be done.
func (d *daemon) resume(ctx context.Context) error {
	queue, err := spool.Open(d.spoolDir())
	if err != nil {
		return err
	}
	d.upkeep = &upkeep{desk: loan.New(), fs: sysfs.New(d.SysfsRoot)}
	d.upkeep.debts = &debts{engine: d.engine, spool: queue, desk: d.upkeep.desk, settled: d.deleted, counts: d.counts, log: d.Log, poke: make(chan struct{}, 1)}
	if err := d.takeOver(); err != nil {
		return err
	}
	d.upkeep.debts.first(ctx)
	return nil
}

// takeOver imports the pods of a live Multus.
func (d *daemon) takeOver() error {
	if d.MultusDir == "" {
		return nil
	}
	sandboxes, err := takeover.Read(d.dirs(), hostState{d.upkeep.fs})
	if err != nil {
		d.Log.Warn("state of Multus is not all readable; what is not stays for its runtime", "dir", d.MultusDir, "error", err)
	}
	came, err := d.engine.Import(sandboxes)
	if err != nil {
		d.Log.Warn("sandboxes of Multus not taken over", "dir", d.MultusDir, "error", err)
	}
	if len(came) > 0 {
		d.Log.Info("sandboxes of Multus taken over", "dir", d.MultusDir, "count", len(came))
	}
	d.upkeep.taken, err = d.engine.Imported()
	return err
}

// deleted forgets what other meta-plugins have on disk of a container that is
// detached now.
func (d *daemon) deleted(container string) {
	d.upkeep.mu.Lock()
	attachments := d.upkeep.taken[container]
	delete(d.upkeep.taken, container)
	d.upkeep.mu.Unlock()
	if len(attachments) == 0 {
		return
	}
	var names []string
	var errs []error
	for _, a := range attachments {
		names = append(names, a.IfName)
		errs = append(errs, takeover.Release(d.dirs(), a))
	}
	if err := errors.Join(append(errs, takeover.Forget(d.dirs(), container, names))...); err != nil {
		d.Log.Warn("state of Multus not removed; it will be taken over and detached again", "container", container, "error", err)
	}
}

// keep starts what keeps the node right once the socket is served.
func (d *daemon) keep(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return d.upkeep.debts.run(ctx) })
	g.Go(func() error { return d.watchParents(ctx) })
	if d.Shim != "" {
		g.Go(func() error { return d.guard().Run(ctx) })
	}
	if d.MultusSocket != "" {
		g.Go(func() error { return d.serveMultus(ctx) })
	}
	if d.cache != nil {
		g.Go(func() error { return d.auditing(ctx) })
		g.Go(func() error { return d.cache.OnNetworks(ctx, d.plug) })
	}
}

// displace has the configuration of Multus give way, if that is wanted.
func (d *daemon) displace() error {
	if !d.Displace {
		return nil
	}
	names, err := install.Displace(d.CNIConfDir)
	if len(names) > 0 {
		d.Log.Info("CNI configuration of Multus set aside", "dir", d.CNIConfDir, "files", names)
	}
	return err
}

// warnNode emits a Warning event about this node, where there is somebody to tell.
func (d *daemon) warnNode(reason, message string) {
	if d.reporter != nil {
		d.reporter.NodeWarning(reason, message)
	}
}

func (d *daemon) guard() *install.Guard {
	return &install.Guard{Dir: d.CNIConfDir, Conf: d.settings(), Log: d.Log,
		Restored: func(what string) {
			d.warnNode(reasonConfRestored, fmt.Sprintf("%s in %s was %s by another agent; it is restored", install.ConfName, d.CNIConfDir, what))
		},
		Shadowed: func(files []string) {
			if len(files) > 0 {
				d.warnNode(reasonConfShadowed, fmt.Sprintf("the container runtime takes %s in %s before %s: pods get no further networks", strings.Join(files, ", "), d.CNIConfDir, install.ConfName))
			}
		}}
}

// plug gives a running pod the networks that it asks for now. Networks of foreign
// plugins wait for a call of the runtime.
func (d *daemon) plug(ctx context.Context, pod cni.Pod) error {
	err := d.engine.Plug(ctx, pod, nil)
	if cni.NeedsRuntime(err) {
		err = d.upkeep.desk.Borrow(ctx, func(ctx context.Context, run cni.Runner) error { return d.engine.Plug(ctx, pod, run) })
	}
	if err != nil {
		d.Log.Warn("networks of a running pod not changed", "pod", pod.PodRef, "error", err)
	}
	return err
}

// auditing audits at once and then each period, until ctx ends.
func (d *daemon) auditing(ctx context.Context) error {
	auditor := &cni.Auditor{Engine: d.engine, Lost: hostState{d.upkeep.fs}.Lost, Owed: d.upkeep.debts.owe}
	tick := time.NewTicker(auditPeriod)
	defer tick.Stop()
	for {
		d.audit(ctx, auditor)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *daemon) audit(ctx context.Context, auditor *cni.Auditor) {
	unknown, err := auditor.Audit(ctx, d.cache.Pods(), nil)
	if err != nil && ctx.Err() == nil && !cni.NeedsRuntime(err) {
		d.Log.Warn("audit", "error", err)
	}
	d.lonely(ctx, unknown)
}

// lonely tells of those of the unknown pods that run without their networks.
func (d *daemon) lonely(ctx context.Context, unknown []cni.Pod) {
	suspects, over, singleHomed := map[cni.PodRef]bool{}, map[cni.PodRef]bool{}, 0
	for _, pod := range unknown {
		suspects[pod.PodRef] = true
		if over[pod.PodRef] = d.upkeep.over[pod.PodRef]; over[pod.PodRef] || !d.upkeep.suspects[pod.PodRef] {
			continue
		}
		running, ended, err := d.reporter.Running(ctx, pod.PodRef)
		over[pod.PodRef] = ended
		switch {
		case err != nil:
			d.Log.Debug("whether a pod runs is not known", "pod", pod.PodRef, "error", err)
		case running:
			singleHomed++
			d.Log.Warn("pod runs without the networks that it asks for", "pod", pod.PodRef)
			d.reporter.Missing(pod.PodRef, "the pod runs without the networks that it asks for: it was started while the container runtime did not call Tendril; it gets them when it is started again")
		}
	}
	d.upkeep.suspects, d.upkeep.over = suspects, over
	d.counts.singleHomed.Set(float64(singleHomed))
}

// hostState answers what package takeover and the auditor ask of the host.
type hostState struct{ fs *sysfs.FS }

// Identify implements takeover.Host.
func (hostState) Identify(path string) (cni.Netns, bool) {
	f, err := netns.Open(path)
	if err != nil {
		return cni.Netns{}, false
	}
	defer f.Close()
	ns, err := netns.Identify(f)
	return ns, err == nil
}

// VF implements takeover.Host.
func (h hostState) VF(address string) (pf string, index int, driver string, err error) {
	addr, err := vf.ParseAddr(address)
	if err != nil {
		return "", 0, "", err
	}
	v, err := h.fs.VF(addr)
	if err == nil && v.Index < 0 {
		err = fmt.Errorf("PF %s does not list VF %s", v.PF, addr)
	}
	return v.PF.String(), v.Index, v.Driver, err
}

// Lost implements cni.Auditor.Lost. A link is known by its index, since a pod may
// rename it. A VF counts as lost only where the host has its device: elsewhere it
// may be with a virtual machine, and must not be touched (invariant 6).
func (h hostState) Lost(ns *os.File, r cni.Record) (bool, error) {
	if r.Link.Index == 0 {
		return false, nil // a device without a link
	}
	conn, err := netns.Dial(ns)
	if err != nil {
		return false, err
	}
	_, err = conn.LinkByIndex(r.Link.Index)
	err = errors.Join(err, conn.Close())
	if !errors.Is(err, netns.ErrNotFound) {
		return false, err
	}
	if r.Link.PCI == "" {
		return true, nil
	}
	addr, err := vf.ParseAddr(r.Link.PCI)
	if err != nil {
		return false, err
	}
	names, err := h.fs.Netdevs(addr)
	return len(names) > 0, err
}

// lent wraps the handler of the runtime's calls.
func (d *daemon) lent(h rpc.Handler) rpc.Handler {
	return lending{Handler: h, desk: d.upkeep.desk, dirs: d.pluginDirs, deleted: d.deleted, asked: &atomic.Int64{}}
}
