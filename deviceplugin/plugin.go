package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// Inventory is where the functions of this machine come from.
type Inventory interface {
	// Snapshot returns the newest inventory, nil before the first scan.
	Snapshot() *vf.Snapshot
	// Subscribe returns a channel that gets a value after each change (several
	// changes may share one) and a func that ends the subscription.
	Subscribe() (<-chan struct{}, func())
}

// Options are what a Plugin is made of.
type Options struct {
	// KubeletRoot is the kubelet's directory (/var/lib/kubelet), at the path at
	// which the kubelet itself has it. Required.
	KubeletRoot string
	// Config is the configuration to begin with; the zero Config has no pools.
	Config Config
	// Inventory is required.
	Inventory Inventory
	// Log is required.
	Log *slog.Logger
	// Resources are merged with Config (see Merge): the pools that policies ask
	// for. It is called from Run's goroutine and answers from memory; call Refresh
	// when its answer changes. May be nil.
	Resources func() []Resource
	// Holdings tells who has which device: what containers have by the kubelet's
	// pod resources, whichever plugin gave it to them, and what the daemon's
	// journal has for pods. An error means that it is not known now. It is called
	// from a goroutine of Run, at start, after changes of pools, and once a minute
	// (every 5 s while a pool has a device that somebody else holds). With nil, an
	// allocation is never over for other resources.
	Holdings func(context.Context) ([]Holding, error)
	// HostOwns returns Host.Owns as it is now. It is called from Run's goroutine
	// each time that pools are made. May be nil: then no whole PF is offered.
	HostOwns func() func(vf.PF) string
	// Unfit is Host.Unfit. It is called from Run's goroutine, and concurrently by
	// each Allocate; it answers from memory. Call Refresh when its answers change.
	Unfit func(vf.Addr) string
	// OnAllocate is told of each Allocation before the kubelet gets its answer.
	// It may be called concurrently. May be nil.
	OnAllocate func(Allocation)
	// DeviceInfoDir is where device-info files for Multus-style consumers go
	// (/var/run/k8s.cni.cncf.io/devinfo/dp); empty for none.
	DeviceInfoDir string
	// CDIDir is the runtime's directory of CDI specifications (/var/run/cdi), and
	// makes containers get their device nodes by CDI; empty for nodes in the
	// answer itself. The kubelet passes the names on from 1.28.
	CDIDir string
	// Dev is the directory of device nodes, /dev when empty.
	Dev string
}

// Plugin serves all pools to the kubelet.
type Plugin struct {
	opts        Options
	kubelet     kubelet
	allocations Allocations

	holdings holdings

	config atomic.Pointer[Config]
	pools  atomic.Pointer[[]Pool]
	// refused is what Merge refused last; it points to nil for nothing.
	refused atomic.Pointer[error]
	// again asks Run's goroutine to look at everything anew.
	again chan struct{}

	// The rest belongs to Run's goroutine.

	endpoints map[string]*endpoint
	files     infoFiles
	cdi       cdiSpec
}

// New returns a Plugin that does nothing until Run. It refuses options without
// the required parts.
func New(o Options) (*Plugin, error) {
	switch {
	case !filepath.IsAbs(o.KubeletRoot):
		return nil, refusal.New("device plugin", "KubeletRoot", o.KubeletRoot, "an absolute path")
	case o.Inventory == nil:
		return nil, refusal.New("device plugin", "Inventory", nil, "an inventory")
	case o.Log == nil:
		return nil, refusal.New("device plugin", "Log", nil, "a logger")
	}
	if o.Dev == "" {
		o.Dev = "/dev"
	}
	if o.OnAllocate == nil {
		o.OnAllocate = func(Allocation) {}
	}
	p := &Plugin{
		opts: o, kubelet: kubelet{root: filepath.Clean(o.KubeletRoot)},
		again: make(chan struct{}, 1), endpoints: map[string]*endpoint{},
		holdings: holdings{ask: o.Holdings, look: make(chan struct{}, 1)},
	}
	p.files = infoFiles{dir: o.DeviceInfoDir, log: o.Log, inUse: p.inUse}
	p.cdi = cdiSpec{dir: o.CDIDir, log: o.Log, inUse: p.inUse}
	p.config.Store(&o.Config)
	return p, nil
}

// Reload replaces the configuration. Pools that are in both stay registered,
// the others go and come.
func (p *Plugin) Reload(cfg Config) {
	p.config.Store(&cfg)
	p.Refresh()
}

// Refresh makes the pools anew, for changes that no snapshot shows. It does not
// wait for that.
func (p *Plugin) Refresh() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// Recount asks for the holders of devices at once, for when the caller knows that
// one has let go. It does not wait for the answer.
func (p *Plugin) Recount() { p.holdings.again() }

// Pools returns the pools served at this moment, in file order; none before the
// first inventory. They must not be changed.
func (p *Plugin) Pools() []Pool {
	if now := p.pools.Load(); now != nil {
		return *now
	}
	return nil
}

// Refused returns why resources from Options.Resources are not served, as
// refusals, or nil.
func (p *Plugin) Refused() error {
	if err := p.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// Allocations returns the record of what was allocated. The caller may add what
// it kept from before a restart.
func (p *Plugin) Allocations() *Allocations { return &p.allocations }

// Run serves until ctx ends, and returns nil then, with all sockets removed and
// all goroutines over. A kubelet that is not there is waited for.
func (p *Plugin) Run(ctx context.Context) error {
	changed, unsubscribe := p.opts.Inventory.Subscribe()
	defer unsubscribe()
	group, ctx := errgroup.WithContext(ctx)
	stirred := make(chan struct{}, 1)
	group.Go(func() error {
		p.kubelet.watch(ctx, p.opts.Log, func() {
			select {
			case stirred <- struct{}{}:
			default:
			}
		})
		return nil
	})
	group.Go(func() error {
		p.holdings.follow(ctx, p.Refresh, func(err error) {
			p.opts.Log.Debug("holders of devices not known anew", "error", err)
		})
		return nil
	})
	group.Go(func() error {
		p.serve(ctx, group, changed, stirred)
		return nil
	})
	return group.Wait()
}

// serve owns the pools and the endpoints.
func (p *Plugin) serve(ctx context.Context, group *errgroup.Group, changed, stirred <-chan struct{}) {
	for {
		p.update(ctx, group)
		select {
		case <-ctx.Done():
			return
		case _, open := <-changed:
			if !open {
				changed = nil
			}
		case <-p.again:
		case <-stirred:
			// The kubelet's directories say nothing about pools, but this comes
			// at every sweep, which is when device nodes and device-info files
			// are looked at again.
			for _, e := range p.endpoints {
				e.poke()
			}
		}
	}
}

// update brings the endpoints in line with configuration and inventory. What
// describes a device is written before the kubelet can be told of it, and removed
// after it was told of its going (invariant 10).
func (p *Plugin) update(ctx context.Context, group *errgroup.Group) {
	snap := p.opts.Inventory.Snapshot()
	if snap == nil {
		return
	}
	pools := p.sort(snap)
	p.pools.Store(&pools)
	changed := p.retire(pools)
	for i := range pools {
		e := p.endpoints[pools[i].Name()]
		changed = changed || e == nil || !e.feed.now.Load().pool.same(&pools[i])
	}
	prune := p.files.write(pools, changed)
	p.publish(ctx, group, pools)
	prune()
	if changed {
		p.holdings.again()
	}
}

// publish hands the pools that changed to their endpoints.
func (p *Plugin) publish(ctx context.Context, group *errgroup.Group, pools []Pool) {
	for i := range pools {
		pool := &pools[i]
		e, ok := p.endpoints[pool.Name()]
		switch {
		case !ok:
			p.report(&Pool{}, pool)
			p.endpoints[pool.Name()] = p.start(ctx, group, pool)
		case !e.feed.now.Load().pool.same(pool):
			p.report(e.feed.now.Load().pool, pool)
			e.feed.publish(pool)
		}
	}
}

// sort makes the pools of snap. The CDI specification is in place before any of
// them can be seen.
func (p *Plugin) sort(snap *vf.Snapshot) []Pool {
	cfg, host := p.merged(), p.host()
	contested := false
	host.Holder = func(id, resource string) string {
		holder := p.holder(id, resource)
		contested = contested || holder != ""
		return holder
	}
	host.CDI = p.opts.CDIDir != ""
	pools := Pools(cfg, snap, host)
	if host.CDI && !p.cdi.sync(pools) {
		host.CDI = false
		pools = Pools(cfg, snap, host)
	}
	p.holdings.contested.Store(contested)
	return pools
}

// merged is the configuration with what policies add.
func (p *Plugin) merged() Config {
	var more []Resource
	if p.opts.Resources != nil {
		more = p.opts.Resources()
	}
	cfg, err := Merge(*p.config.Load(), more)
	if before := p.Refused(); err != nil && (before == nil || before.Error() != err.Error()) {
		p.opts.Log.Warn("resources of policies left out", "error", err)
	}
	p.refused.Store(&err)
	return cfg
}

func (p *Plugin) host() Host {
	var owns func(vf.PF) string
	if p.opts.HostOwns != nil {
		owns = p.opts.HostOwns()
	}
	return Host{
		Owns: owns, Unfit: p.opts.Unfit,
		VhostNet: exists(filepath.Join(p.opts.Dev, "vhost-net")),
		Tun:      exists(filepath.Join(p.opts.Dev, "net", "tun")),
		RDMACM:   exists(filepath.Join(p.opts.Dev, "infiniband", rdmaCM)),
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (p *Plugin) start(ctx context.Context, group *errgroup.Group, pool *Pool) *endpoint {
	ctx, cancel := context.WithCancel(ctx)
	e := &endpoint{
		resource: pool.Resource, kubelet: p.kubelet, feed: newFeed(pool), log: p.opts.Log,
		allocate: p.allocate, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	group.Go(func() error {
		e.run(ctx)
		return nil
	})
	return e
}

// retire takes down the endpoints whose resource is gone, and reports whether
// there were any. It waits for them, so that the same resource can come back at
// once.
func (p *Plugin) retire(pools []Pool) bool {
	keep := map[string]bool{}
	for i := range pools {
		keep[pools[i].Name()] = true
	}
	var leaving []*endpoint
	for name, e := range p.endpoints {
		if !keep[name] {
			e.cancel()
			leaving = append(leaving, e)
			delete(p.endpoints, name)
		}
	}
	for _, e := range leaving {
		<-e.done
		p.opts.Log.Info("resource withdrawn", "resource", e.resource.String())
	}
	return len(leaving) > 0
}

// allocate makes the devices those of one resource, or refuses all of them. It is
// the last word: two pools that have a device one after the other, in a change of
// configuration, do not both get here with success; and neither do a pod and somebody
// who works on the VF, who first says so (Unfit) and then looks for allocations.
func (p *Plugin) allocate(list []Allocation) error {
	done, id, held := p.allocations.claim(list, p.holdings.over)
	if held != nil {
		holder := p.holder(id, list[0].Resource)
		if holder == "" {
			holder = "a container as " + held.Resource
		}
		return refusal.New(fmt.Sprintf("resource %q", list[0].Resource), "devices", id,
			"a device that no other resource has given out").Because(errors.New("held by " + holder))
	}
	if id, cause := p.unfit(list); cause != "" {
		p.allocations.revert(done)
		return refusal.New(fmt.Sprintf("resource %q", list[0].Resource), "devices", id, "a healthy device").Because(errors.New(cause))
	}
	for _, a := range list {
		p.opts.OnAllocate(a)
	}
	return nil
}

// unfit returns the first VF that must not be given out by now, and why.
func (p *Plugin) unfit(list []Allocation) (id, cause string) {
	if p.opts.Unfit == nil {
		return "", ""
	}
	for _, a := range list {
		for _, id := range a.IDs {
			addr, err := vf.ParseAddr(id)
			if err != nil {
				continue // an auxiliary device
			}
			if cause := p.opts.Unfit(addr); cause != "" {
				return id, cause
			}
		}
	}
	return "", ""
}

// report logs what a person would want to know about a pool that changed.
func (p *Plugin) report(old, pool *Pool) {
	log := p.opts.Log.With("resource", pool.Name())
	log.Info("pool changed", "devices", len(pool.Devices), "before", len(old.Devices))
	for _, d := range pool.Devices {
		before, known := old.Device(d.ID)
		if known && before.equal(d) {
			continue
		}
		if !d.Healthy() {
			log.Warn("device unhealthy", "pci", d.ID, "cause", d.Cause)
		} else if known && !before.Healthy() {
			log.Info("device healthy", "pci", d.ID)
		}
		if !known && d.Index < 0 {
			log.Warn("a whole physical function is offered", "pf", d.ID)
		}
		if !known && d.VhostNet && !(pool.host.VhostNet && pool.host.Tun) {
			log.Warn("needVhostNet, but the host lacks a node", "pci", d.ID, "vhost-net", pool.host.VhostNet, "tun", pool.host.Tun)
		}
	}
	if len(pool.Overlaps) != len(old.Overlaps) && len(pool.Overlaps) > 0 {
		// One line: a resource for "all the rest" overlaps on purpose.
		log.Warn("devices selected that earlier resources have", "devices", len(pool.Overlaps), "pools", owners(pool))
	}
}

func owners(p *Pool) []string {
	names := slices.Sorted(maps.Values(p.Overlaps))
	return slices.Compact(names)
}
