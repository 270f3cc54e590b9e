package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/deviceinfo"
	"github.com/tendril-cni/tendril/cni/flight"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/kube"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Run runs the daemon until ctx ends, and returns nil then.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{Config: cfg, started: time.Now()}
	defer d.close()
	if err := d.open(); err != nil {
		return err
	}
	// It is made here, since two sockets must not be made in one directory at once.
	ln, err := rpc.Listen(d.InspectSocket())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return inspect.Serve(ctx, ln, d.sources()) })
	d.background(ctx, g)
	g.Go(func() error { return d.serve(ctx, g) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// daemon holds the parts. Fields are set by open and read only after it.
type daemon struct {
	Config
	networks  *networksFile
	journal   *journal.Journal
	engine    *cni.Engine
	rest      *rest.Config   // nil without Kubernetes
	cache     *kube.Cache    // nil without Kubernetes
	reporter  *kube.Reporter // nil without Kubernetes
	tell      *facts         // nil without Kubernetes
	inventory *sysfs.Inventory
	offer     *offer
	vfs       *vfs
	slots     *addresses // nil without Kubernetes
	kubelet   *podresources.Client
	leases    leases
	serving   atomic.Bool
	started   time.Time
	upkeep    *upkeep // set by resume
	flights   *flight.Recorder
	counts    *counts
}

func (d *daemon) open() (err error) {
	if err := d.validate(); err != nil {
		return err
	}
	if d.networks, err = openNetworks(d.NetworksFile, d.Log, d.warnNode); err != nil {
		return err
	}
	if d.journal, err = journal.Open(journal.Options{Path: d.Config.journal(), CopyPath: d.journalCopy(), Log: d.Log, OnStep: d.OnStep}); err != nil {
		return err
	}
	if err := d.connect(); err != nil {
		return err
	}
	fs := sysfs.New(d.SysfsRoot)
	d.inventory = newInventory(fs, d.Config)
	if d.kubelet, err = podresources.New(d.KubeletRoot); err != nil {
		return err
	}
	d.offer, err = newOffer(offerOptions{
		File: d.ConfigFile, KubeletRoot: d.KubeletRoot, StateDir: d.StateDir, CDI: d.CDI,
		// d.vfs is there before the plugin runs.
		Unfit:     func(a vf.Addr) string { return d.vfs.provisioner.Unfit(a) },
		Resources: func() []deviceplugin.Resource { return d.vfs.resources() },
	}, d.inventory, d.journal, d.kubelet, d.Log)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if d.vfs, err = d.newVFs(fs, boot, d.offer.plugin.Refresh); err != nil {
		return err
	}
	if d.slots, err = d.newAddresses(); err != nil {
		return err
	}
	d.counts = newCounts()
	d.flights = flight.New(flight.Options{File: d.failures(), Ended: d.counts.flown, Log: d.Log})
	d.leases = newLeases(d.journal, d.Log)
	d.engine = d.newEngine(boot)
	return nil
}

// connect makes the clients of the API server.
func (d *daemon) connect() error {
	if d.Cluster != nil {
		return nil
	}
	config, err := restConfig(d.Kubeconfig)
	if err != nil {
		return fmt.Errorf("find the API server (--kubeconfig): %w", err)
	}
	d.rest = config
	if d.cache, err = kube.NewCache(config, d.NodeName, kube.Options{}, d.Log); err != nil {
		return err
	}
	if d.reporter, err = kube.NewReporter(config, d.NodeName, d.cache, kube.Options{NoAdded: d.NoInterfaceEvents}, d.Log); err != nil {
		return err
	}
	if d.tell, err = newFacts(config, d.NodeName, d.facts, d.Log); err != nil {
		return err
	}
	d.Cluster, d.Report = d.cache, d.reporter
	return nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// bootID is the kernel's id of this boot.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (d *daemon) newEngine(boot string) *cni.Engine {
	return cni.New(cni.Options{
		Journal:    d.journal,
		Drivers:    d.drivers(),
		Modifiers:  d.modifiers(),
		Delegate:   delegate.New(d.resultCache()),
		Cluster:    d.Cluster,
		Devices:    devices{kubelet: d.kubelet, allocations: d.offer.plugin.Allocations(), log: d.Log},
		Namespaces: namespaces{},
		Report:     d.Report,
		Default:    d.defaultNetwork,
		Ready:      d.ready,
		Quarantine: d.vfs,
		Claim:      d.slots.claimer(),
		Prober:     prober{},
		Flat:       d.flat,
		Files:      d.addressFiles,
		Flights:    d.flights,
		Leases:     d.leases,
		BootID:     boot,
		Log:        d.Log,

		Node:          d.networks.now,
		Find:          d.find,
		Await:         d.awaitReadiness,
		DefaultRoutes: netns.Defaults{},
		DeviceInfo:    deviceinfo.New(cni.DeviceInfoDir),
		Sweep:         stacked.Sweep,
	})
}

func (d *daemon) ready() error {
	switch {
	case !d.serving.Load():
		return errors.New("the daemon is starting")
	case d.cache != nil && !d.cache.Synced():
		return errors.New("the cache of pods and network definitions is not filled yet")
	case d.offer.plugin.Pools() == nil:
		return errors.New("the device pools are not filled yet")
	}
	return d.readinessFile()
}

// background starts what runs beside the socket.
func (d *daemon) background(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return d.inventory.Run(ctx) })
	g.Go(func() error { return d.flights.Run(ctx) })
	g.Go(func() error { return d.offer.Run(ctx) })
	d.vfs.run(ctx, g, d)
	if d.cache != nil {
		g.Go(func() error { return d.cache.Run(ctx) })
		g.Go(func() error { return d.report(ctx) })
		g.Go(func() error { return d.tell.run(ctx, factsPeriod) })
	}
	if d.MetricsAddr != "" {
		g.Go(func() error {
			return serveHealth(ctx, d.MetricsAddr, d.metrics(), d.offer, func(ctx context.Context) error { return d.engine.Status(ctx) })
		})
	}
}

// report writes statuses and events, once the cache can tell the pods that they
// are of.
func (d *daemon) report(ctx context.Context) error {
	if err := d.cache.WaitSynced(ctx); err != nil {
		return err
	}
	return d.reporter.Run(ctx)
}

// serve recovers, opens the socket, installs, and answers until ctx ends. The
// order is invariant 1 of this package.
func (d *daemon) serve(ctx context.Context, g *errgroup.Group) error {
	fresh, err := d.fresh()
	if err != nil {
		return err
	}
	records, err := d.engine.Records()
	if err != nil {
		return err
	}
	if err := d.leases.resume(d.journal, records); err != nil {
		return fmt.Errorf("resume leases: %w", err)
	}
	if err := d.outdated(); err != nil {
		return err
	}
	if err := d.engine.Recover(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := d.resume(ctx); err != nil {
		return err
	}
	if d.cache != nil {
		if err := d.cache.WaitSynced(ctx); err != nil {
			return err
		}
	}
	ln, err := rpc.Listen(d.Socket())
	if err != nil {
		return err
	}
	d.keepAddresses(ctx, g, fresh)
	g.Go(func() error { return d.answer(ctx, ln) })
	d.serving.Store(true)
	if err := d.install(); err != nil {
		return err
	}
	d.keep(ctx, g)
	return nil
}

// fresh says that the journal is new: no daemon has declared it valid yet.
func (d *daemon) fresh() (fresh bool, err error) {
	err = d.journal.View(func(tx *journal.Tx) error {
		fresh = tx.Boot() == ""
		return nil
	})
	return fresh, err
}

func (d *daemon) answer(ctx context.Context, ln net.Listener) error {
	d.Log.Info("serving", "socket", d.Socket())
	return rpc.Serve(ctx, ln, d.lent(handler{engine: d.engine, dirs: d.pluginDirs, counts: d.counts, log: d.Log}), d.Log)
}

func (d *daemon) install() error {
	if d.Shim == "" {
		d.Log.Info("no shim beside the daemon: nothing is installed on the host", "dir", d.CNIBinDir)
		return nil
	}
	if err := logged(d.Log, "shim installed", d.CNIBinDir)(install.Shim(d.Shim, d.CNIBinDir)); err != nil {
		return err
	}
	if err := d.displace(); err != nil {
		return err
	}
	return logged(d.Log, "CNI configuration installed", d.CNIConfDir)(install.Conf(d.CNIConfDir, d.settings()))
}

func logged(log *slog.Logger, what, dir string) func(changed bool, err error) error {
	return func(changed bool, err error) error {
		if changed {
			log.Info(what, "dir", dir)
		}
		return err
	}
}

// close ends what open began, in reverse.
func (d *daemon) close() {
	if d.leases.keeper != nil {
		d.leases.keeper.Close()
	}
	if d.kubelet != nil {
		_ = d.kubelet.Close()
	}
	if d.journal != nil {
		if err := d.journal.Close(); err != nil {
			d.Log.Warn("close journal", "error", err)
		}
	}
}

// namespaces implements cni.Namespaces.
type namespaces struct{}

func (namespaces) Open(path string) (*os.File, error) {
	f, err := netns.Open(path)
	if errors.Is(err, netns.ErrGone) {
		err = errors.Join(fs.ErrNotExist, err)
	}
	return f, err
}

func (namespaces) Identify(f *os.File) (cni.Netns, error) { return netns.Identify(f) }
