package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/ipvlan"
	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/kube"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/sriov"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// Run runs the daemon until ctx ends, and returns nil then.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{Config: cfg}
	defer d.close()
	if err := d.open(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	d.background(ctx, g)
	g.Go(func() error { return d.serve(ctx, g) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// daemon holds the parts. Fields are set by open and read only after it.
type daemon struct {
	Config
	journal   *journal.Journal
	engine    *cni.Engine
	cache     *kube.Cache    // nil without Kubernetes
	reporter  *kube.Reporter // nil without Kubernetes
	inventory *sysfs.Inventory
	plugin    *deviceplugin.Plugin
	kubelet   *podresources.Client
	serving   atomic.Bool
}

func (d *daemon) open() (err error) {
	if err := d.validate(); err != nil {
		return err
	}
	conf, err := pools(d.ConfigFile)
	if err != nil {
		return err
	}
	if d.journal, err = journal.Open(journal.Options{Path: d.Config.journal(), CopyPath: d.journalCopy(), Log: d.Log, OnStep: d.OnStep}); err != nil {
		return err
	}
	if err := d.connect(); err != nil {
		return err
	}
	fs := sysfs.New(d.SysfsRoot)
	d.inventory = sysfs.NewInventory(fs, d.Log, sysfs.Options{})
	d.plugin, err = deviceplugin.New(deviceplugin.Options{
		KubeletRoot: d.KubeletRoot, Config: conf, Inventory: scanned{d.inventory}, Log: d.Log,
		HostOwns: hostOwns, OnAllocate: remember(d.journal, d.Log),
	})
	if err != nil {
		return err
	}
	if err := recall(d.journal, d.plugin.Allocations()); err != nil {
		return err
	}
	if d.kubelet, err = podresources.New(d.KubeletRoot); err != nil {
		return err
	}
	d.engine, err = d.newEngine(fs)
	return err
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
	if d.cache, err = kube.NewCache(config, d.NodeName, kube.Options{}, d.Log); err != nil {
		return err
	}
	if d.reporter, err = kube.NewReporter(config, d.NodeName, d.cache, kube.Options{}, d.Log); err != nil {
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

func (d *daemon) newEngine(fs *sysfs.FS) (*cni.Engine, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	return cni.New(cni.Options{
		Journal: d.journal,
		Drivers: map[string]cni.Driver{
			cni.KindSriov: sriov.New(fs, d.Log), cni.KindMacvlan: macvlan.New(d.Log), cni.KindIpvlan: ipvlan.New(d.Log),
		},
		Delegate:   delegate.New(d.resultCache()),
		Cluster:    d.Cluster,
		Devices:    devices{kubelet: d.kubelet, allocations: d.plugin.Allocations(), log: d.Log},
		Namespaces: namespaces{},
		Report:     d.Report,
		Default:    d.defaultNetwork,
		Ready:      d.ready,
		BootID:     strings.TrimSpace(string(boot)),
		Log:        d.Log,
	}), nil
}

// defaultNetwork reads the runtime's configuration directory at each call: it
// is small, and what it says now is what holds.
func (d *daemon) defaultNetwork() (netconf.Network, error) {
	network, _, err := delegate.Discover(d.CNIConfDir, install.Own)
	return network, err
}

func (d *daemon) ready() error {
	switch {
	case !d.serving.Load():
		return errors.New("the daemon is starting")
	case d.cache != nil && !d.cache.Synced():
		return errors.New("the cache of pods and network definitions is not filled yet")
	}
	return nil
}

// background starts what runs beside the socket.
func (d *daemon) background(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return d.inventory.Run(ctx) })
	g.Go(func() error { return d.plugin.Run(ctx) })
	if d.cache != nil {
		g.Go(func() error { return d.cache.Run(ctx) })
		g.Go(func() error { return d.reporter.Run(ctx) })
	}
	if d.MetricsAddr != "" {
		g.Go(func() error {
			return serveHealth(ctx, d.MetricsAddr, d.metrics(), func(ctx context.Context) error { return d.engine.Status(ctx) })
		})
	}
}

// serve recovers, opens the socket, installs, and answers until ctx ends. The
// order is invariant 1 of this package.
func (d *daemon) serve(ctx context.Context, g *errgroup.Group) error {
	if err := d.engine.Recover(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
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
	g.Go(func() error { return d.answer(ctx, ln) })
	d.serving.Store(true)
	return d.install()
}

func (d *daemon) answer(ctx context.Context, ln net.Listener) error {
	d.Log.Info("serving", "socket", d.Socket())
	return rpc.Serve(ctx, ln, handler{engine: d.engine, log: d.Log}, d.Log)
}

func (d *daemon) install() error {
	if d.Shim == "" {
		d.Log.Info("no shim beside the daemon: nothing is installed on the host", "dir", d.CNIBinDir)
		return nil
	}
	if err := logged(d.Log, "shim installed", d.CNIBinDir)(install.Shim(d.Shim, d.CNIBinDir)); err != nil {
		return err
	}
	return logged(d.Log, "CNI configuration installed", d.CNIConfDir)(install.Conf(d.CNIConfDir, d.Socket()))
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

func (namespaces) Open(path string) (*os.File, error) { return netns.Open(path) }

func (namespaces) Identify(f *os.File) (cni.Netns, error) { return netns.Identify(f) }
