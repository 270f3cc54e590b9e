package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tendril-cni/tendril/webhook"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// Options say what a Cache looks at.
type Options struct {
	// Facts are what the operator decided: isolation, resource keys, networks.
	// The cache adds what it sees.
	Facts validate.Facts
	// Namespace and SwitchesName are where the control-switch ConfigMap is.
	Namespace, SwitchesName string
	// Injector are the switches without that ConfigMap.
	Injector inject.Options
	// OnSwitches is called after the switches changed, if it is not nil.
	OnSwitches func()
}

// Cache knows definitions, nodes, device classes, claims, VFs and the switches.
type Cache struct {
	options  Options
	log      *slog.Logger
	lookup   *lookup
	held     func(string, []validate.Span) []validate.Held
	networks cache.SharedIndexInformer
	nodes    cache.SharedIndexInformer
	switches cache.SharedIndexInformer
	classes  cache.SharedIndexInformer // nil without resource.k8s.io/v1, as are the next two
	claims   cache.SharedIndexInformer
	claimTpl cache.SharedIndexInformer
	policies cache.SharedIndexInformer // nil without VF policies, as is the next one
	states   cache.SharedIndexInformer

	// followed are what is told of changes, by the informers' names.
	followed map[string]cache.ResourceEventHandlerRegistration

	injector  atomic.Pointer[inject.Options]
	summaries summaries

	mu      sync.Mutex     // guards what follows
	cluster validate.Facts // what nodes and classes say
	stale   bool           // they have changed since
}

var _ webhook.Cluster = (*Cache)(nil)

// NewCache returns a Cache. It asks the API server once, whether it has
// resource.k8s.io/v1, and nothing else before Run.
func NewCache(config *rest.Config, o Options, log *slog.Logger) (*Cache, error) {
	c := &Cache{options: o, log: log, summaries: summaries{of: map[string]*validate.Summary{}}, followed: map[string]cache.ResourceEventHandlerRegistration{}}
	c.injector.Store(&o.Injector)
	s, err := newSources(config)
	if err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	c.lookup, c.held = newLookup(s.definitions), s.held
	c.networks = s.networkInformer()
	c.nodes = s.nodeInformer()
	c.switches = s.switchesInformer(o.Namespace, o.SwitchesName)
	if s.claims {
		c.classes, c.claims, c.claimTpl = s.classInformer(), s.claimInformer(), s.templateInformer()
	}
	if s.vfs {
		c.policies, c.states = s.policyInformer(), s.stateInformer()
	}
	return c, c.handle()
}

// Names of the informers that something follows from.
const (
	ofNetworks = "network attachment definitions"
	ofNodes    = "nodes"
	ofSwitches = "control switches"
	ofClasses  = "device classes"
)

// informers are those that are there, by the name they have in messages.
func (c *Cache) informers() map[string]cache.SharedIndexInformer {
	all := map[string]cache.SharedIndexInformer{ofNetworks: c.networks, ofNodes: c.nodes, ofSwitches: c.switches}
	if c.classes != nil {
		all[ofClasses], all["resource claims"], all["resource claim templates"] = c.classes, c.claims, c.claimTpl
	}
	if c.policies != nil {
		all["VF policies"], all["states of VFs"] = c.policies, c.states
	}
	return all
}

// handle wires what follows from a change.
func (c *Cache) handle() error {
	follow := func(change func(object any, gone bool)) cache.ResourceEventHandler {
		return cache.ResourceEventHandlerFuncs{
			AddFunc: func(o any) { change(o, false) },
			UpdateFunc: func(old, o any) {
				if !same(old, o) {
					change(o, false)
				}
			},
			DeleteFunc: func(o any) {
				if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = t.Obj
				}
				change(o, true)
			},
		}
	}
	handlers := map[string]cache.ResourceEventHandler{
		ofNetworks: follow(func(o any, gone bool) {
			if d, ok := o.(*nad.NetworkAttachmentDefinition); ok {
				c.summaries.change(d, gone)
				c.lookup.forget(d.Namespace + "/" + d.Name)
			}
		}),
		ofNodes:    follow(func(any, bool) { c.changeCluster() }),
		ofSwitches: follow(c.changeSwitches),
		ofClasses:  follow(func(any, bool) { c.changeCluster() }),
	}
	for what, informer := range c.informers() {
		if h := handlers[what]; h != nil {
			var err error
			if c.followed[what], err = informer.AddEventHandler(h); err != nil {
				return err
			}
		}
		complain := func(_ context.Context, _ *cache.Reflector, err error) {
			c.log.Warn("watch interrupted, it will be resumed", "resource", what, "error", err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(complain); err != nil {
			return err
		}
	}
	return nil
}

// Run keeps the cache up to date until ctx ends, whatever happens to the API
// server, and returns nil.
func (c *Cache) Run(ctx context.Context) error {
	var group sync.WaitGroup
	for _, informer := range c.informers() {
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	group.Wait()
	return nil
}

// same reports whether nothing that is kept of an object has changed: nodes are
// written all the time, for what nobody here looks at.
func same(old, now any) bool {
	a, ok := old.(*corev1.Node)
	b, both := now.(*corev1.Node)
	if !ok || !both {
		return false
	}
	before := *a
	before.ResourceVersion = b.ResourceVersion
	return equality.Semantic.DeepEqual(&before, b)
}

// Synced returns nil when everything has been seen once, and what follows from it
// is known.
func (c *Cache) Synced() error {
	for what, informer := range c.informers() {
		if h := c.followed[what]; !informer.HasSynced() || h != nil && !h.HasSynced() {
			return fmt.Errorf("%s not seen yet", what)
		}
	}
	return nil
}

// Network implements webhook.Cluster.
func (c *Cache) Network(ctx context.Context, namespace, name string) (*nad.NetworkAttachmentDefinition, error) {
	if d := c.known(namespace, name); d != nil {
		return d, nil
	}
	return c.lookup.ask(ctx, namespace, name)
}

func (c *Cache) known(namespace, name string) *nad.NetworkAttachmentDefinition {
	o, exists, _ := c.networks.GetStore().GetByKey(namespace + "/" + name)
	if !exists {
		return nil
	}
	return o.(*nad.NetworkAttachmentDefinition)
}

// Facts implements webhook.Cluster.
func (c *Cache) Facts() validate.Facts {
	f, seen := c.options.Facts, c.seen()
	f.Networks, f.Complete = view{c}, true
	f.Plugins, f.Resources, f.Userspace, f.Links, f.Given = seen.Plugins, seen.Resources, seen.Userspace, seen.Links, seen.Given
	f.PodNets = append(slices.Clip(f.PodNets), seen.PodNets...)
	f.NodeAddrs, f.Held = seen.NodeAddrs, c.held
	if c.policies != nil {
		f.VFs = c.vfs
	}
	return f
}

// Injector returns the injector's switches as they are now.
func (c *Cache) Injector() inject.Options { return *c.injector.Load() }

// changeSwitches follows the ConfigMap. Without it, and with one that cannot be
// read, the command line's switches hold.
func (c *Cache) changeSwitches(o any, gone bool) {
	m, ok := o.(*corev1.ConfigMap)
	if !ok {
		return
	}
	next := c.options.Injector
	if text, has := m.Data["config.json"]; has && !gone {
		var err error
		if next, err = next.With(text); err != nil {
			c.log.Warn("control switches not all in force", "configmap", m.Namespace+"/"+m.Name, "error", err)
		}
	}
	c.injector.Store(&next)
	c.log.Info("control switches changed", "honor", next.Honor, "hugepages", next.Hugepages, "injections", len(next.Injections))
	if c.options.OnSwitches != nil {
		c.options.OnSwitches()
	}
}

// view is the part of a Cache that validate.Networks names.
type view struct{ c *Cache }

// Network implements validate.Networks.
func (v view) Network(namespace, name string) *nad.NetworkAttachmentDefinition {
	return v.c.known(namespace, name)
}

// Summaries implements validate.Networks.
func (v view) Summaries() []*validate.Summary { return v.c.summaries.all() }

func (c *Cache) changeCluster() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}

// seen returns the facts that nodes and device classes give. They are made when they
// are asked for after a change, and not with each: thousands of nodes are seen at
// once when a replica starts.
func (c *Cache) seen() validate.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale {
		c.cluster, c.stale = factsOf(listed[corev1.Node](c.nodes), listed[resourcev1.DeviceClass](c.classes)), false
	}
	return c.cluster
}

// listed returns all objects of an informer, none of one that is not there.
func listed[T any](from cache.SharedIndexInformer) []*T {
	var out []*T
	if from == nil {
		return nil
	}
	for _, o := range from.GetStore().List() {
		if t, ok := o.(*T); ok {
			out = append(out, t)
		}
	}
	return out
}
