package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// Options are what an Adapter may be given.
type Options struct {
	// OnPolicies gets the policies for this node whenever they, or the node's
	// labels, changed; the first call may be with none. Required. It is called from
	// one goroutine at a time and must not block.
	OnPolicies func([]vf.Policy)
	// Guard also puts the taint on the node, when the daemon finds at its start
	// that VFs have to be changed first: the kubelet's --register-with-taints works
	// only when the node is new, and not at later boots.
	Guard bool
	// Interval is the shortest time between two writes of the state; 0 is a second.
	Interval time.Duration
}

// Adapter connects one node with the API server.
type Adapter struct {
	node     string
	opts     Options
	log      *slog.Logger
	dynamic  dynamic.Interface
	policies cache.SharedIndexInformer
	self     cache.SharedIndexInformer

	// mu guards the rest.
	mu sync.Mutex
	// mine are the policies for this node, as objects and as values; refused are
	// those that are not valid.
	mine    []known
	refused []v1alpha1.PolicyState
	state   *vf.State

	// dirty says that there is something to write.
	dirty chan struct{}
}

// known is one policy for this node.
type known struct {
	policy     vf.Policy
	generation int64
}

// New makes an Adapter of the node of that name. It makes no request before Run.
func New(config *rest.Config, node string, o Options, log *slog.Logger) (*Adapter, error) {
	if node == "" || o.OnPolicies == nil || log == nil {
		return nil, refusal.New("VF adapter", "node, OnPolicies, log", nil, "all of them given")
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	// Custom resources come as JSON, whatever the rest of the daemon speaks.
	json := rest.CopyConfig(config)
	json.ContentType, json.AcceptContentTypes = "", ""
	objects, err := dynamic.NewForConfig(json)
	if err != nil {
		return nil, fmt.Errorf("make client for VF policies: %w", err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client for metadata: %w", err)
	}
	a := &Adapter{node: node, opts: o, log: log, dynamic: objects, dirty: make(chan struct{}, 1)}
	if a.policies, err = policyInformer(objects); err != nil {
		return nil, err
	}
	a.self, err = nodeInformer(meta, node)
	return a, err
}

// Report takes a new state, which is written soon. It does not block.
func (a *Adapter) Report(s vf.State) {
	a.mu.Lock()
	a.state = &s
	a.mu.Unlock()
	a.wake()
}

func (a *Adapter) wake() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// Policies returns the valid policies for this node at this moment.
func (a *Adapter) Policies() []vf.Policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]vf.Policy, 0, len(a.mine))
	for _, k := range a.mine {
		out = append(out, k.policy)
	}
	return out
}

// Run watches and reports until ctx ends, and returns nil then. An API server
// that is away, or does not know the kinds, is waited for.
func (a *Adapter) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	for _, i := range []cache.SharedIndexInformer{a.policies, a.self} {
		if err := a.follow(i, changed); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.policies.RunWithContext(ctx) })
	wg.Go(func() { a.self.RunWithContext(ctx) })
	wg.Go(func() { a.hand(ctx, changed) })
	wg.Go(func() { a.write(ctx) })
	wg.Wait()
	return nil
}

func (a *Adapter) follow(i cache.SharedIndexInformer, changed chan<- struct{}) error {
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	// One word of our own in place of the library's; it tries again by itself.
	return i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if !errors.Is(err, context.Canceled) {
			a.log.Warn("VF policies are not watched now", "error", err)
		}
	})
}

// hand gives policies on after each change, once all is known.
func (a *Adapter) hand(ctx context.Context, changed <-chan struct{}) {
	if !cache.WaitForCacheSync(ctx.Done(), a.policies.HasSynced, a.self.HasSynced) {
		return
	}
	for {
		a.sort()
		a.opts.OnPolicies(a.Policies())
		a.wake()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// seen is this node; the zero value for one that the API server does not have.
func (a *Adapter) seen() metav1.PartialObjectMetadata {
	for _, o := range a.self.GetStore().List() {
		if m, ok := o.(*metav1.PartialObjectMetadata); ok {
			return *m
		}
	}
	return metav1.PartialObjectMetadata{}
}

func (a *Adapter) labels() map[string]string { return a.seen().Labels }

func (a *Adapter) uid() types.UID { return a.seen().UID }

var nodesResource = corev1.SchemeGroupVersion.WithResource("nodes")
