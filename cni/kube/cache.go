package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Annotations (NPWG v1.3; kubernetes.io ones are the kubelet's).
const (
	networksAnnotation = "k8s.v1.cni.cncf.io/networks"
	statusAnnotation   = "k8s.v1.cni.cncf.io/network-status"
	resourceAnnotation = "k8s.v1.cni.cncf.io/resourceName"
	sourceAnnotation   = "kubernetes.io/config.source"
	hashAnnotation     = "kubernetes.io/config.hash"
)

// Cache knows this node's pods and all definitions. It implements cni.Cluster.
// Use NewCache.
type Cache struct {
	pods, definitions cache.SharedIndexInformer
	wait, podWait     time.Duration
	wake              wakes

	heardPods, heardDefinitions heard
}

var _ cni.Cluster = (*Cache)(nil)

// NewCache returns a Cache of the pods of node. It makes no request before Run.
func NewCache(config *rest.Config, node string, o Options, log *slog.Logger) (*Cache, error) {
	o = o.withDefaults()
	c := &Cache{wait: o.DefinitionWait, podWait: o.PodWait, wake: wakes{waiting: map[string][]chan struct{}{}}}
	var err error
	if c.pods, err = podInformer(o.limit(config), node, &c.heardPods); err != nil {
		return nil, fmt.Errorf("watch pods of node %s: %w", node, err)
	}
	if c.definitions, err = definitionInformer(o.limit(config), &c.heardDefinitions); err != nil {
		return nil, fmt.Errorf("watch network attachment definitions: %w", err)
	}
	for kind, informer := range map[string]cache.SharedIndexInformer{podKind: c.pods, definitionKind: c.definitions} {
		if _, err := informer.AddEventHandler(c.wake.handler(kind)); err != nil {
			return nil, fmt.Errorf("watch %ss: %w", kind, err)
		}
		complain := func(_ context.Context, _ *cache.Reflector, err error) {
			log.Warn("watch interrupted, it will be resumed", "resource", kind, "error", err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(complain); err != nil {
			return nil, fmt.Errorf("watch %ss: %w", kind, err)
		}
	}
	return c, nil
}

// Run keeps the cache up to date until ctx ends. It resumes by itself whatever
// happens to the API server, and returns nil.
func (c *Cache) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { c.pods.RunWithContext(ctx) })
	group.Go(func() { c.definitions.RunWithContext(ctx) })
	group.Wait()
	return nil
}

// Synced reports whether the cache has been filled once.
func (c *Cache) Synced() bool { return c.pods.HasSynced() && c.definitions.HasSynced() }

// WaitSynced returns when the cache has been filled once, or with ctx's error.
func (c *Cache) WaitSynced(ctx context.Context) error {
	for kind, informer := range map[string]cache.SharedIndexInformer{podKind: c.pods, definitionKind: c.definitions} {
		select {
		case <-informer.HasSyncedChecker().Done():
		case <-ctx.Done():
			return fmt.Errorf("wait for the first list of %ss: %w", kind, ctx.Err())
		}
	}
	return nil
}

// Pod returns the pod with that name and uid, waiting for it until ctx ends or
// Options.PodWait is over. An empty uid is any. The pod's UID is uid where that is
// given. The error of a wait that was in vain wraps that of a context and says what
// the cache has instead.
func (c *Cache) Pod(ctx context.Context, namespace, name, uid string) (cni.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, c.podWait)
	defer cancel()
	key := namespace + "/" + name
	changed, done := c.wake.on(podKind, key)
	defer done()
	for {
		object, exists, _ := c.pods.GetStore().GetByKey(key)
		var seen *metav1.PartialObjectMetadata
		if exists {
			seen = object.(*metav1.PartialObjectMetadata)
			if uid == "" || string(seen.UID) == uid || static(seen) {
				return podOf(seen, uid), nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return cni.Pod{}, fmt.Errorf("wait for pod %s: uid wanted %q, %s: %w", key, uid, c.sight(seen), ctx.Err())
		}
	}
}

// sight says what the cache knows of a pod that was not to be found.
func (c *Cache) sight(seen *metav1.PartialObjectMetadata) string {
	switch {
	case seen != nil:
		return fmt.Sprintf("uid seen %q", seen.UID)
	case !c.pods.HasSynced():
		return "none seen; the API server has not answered yet"
	}
	return "none seen on this node"
}

func static(p *metav1.PartialObjectMetadata) bool {
	source, ok := p.Annotations[sourceAnnotation]
	return ok && source != "api"
}

func podOf(p *metav1.PartialObjectMetadata, uid string) cni.Pod {
	if uid == "" {
		uid = string(p.UID)
		if hash := p.Annotations[hashAnnotation]; static(p) && hash != "" {
			uid = hash
		}
	}
	return cni.Pod{PodRef: cni.PodRef{Namespace: p.Namespace, Name: p.Name, UID: uid}, Annotations: p.Annotations, Ordinal: len(p.OwnerReferences) > 0}
}

// apiUID returns the UID by which the API server knows ref, which for static
// pods is not ref's. ok is false when the cache does not have that pod.
func (c *Cache) apiUID(ref cni.PodRef) (uid types.UID, ok bool) {
	object, exists, _ := c.pods.GetStore().GetByKey(ref.String())
	if !exists {
		return "", false
	}
	p := object.(*metav1.PartialObjectMetadata)
	if string(p.UID) == ref.UID || ref.UID == "" || static(p) {
		return p.UID, true
	}
	return "", false
}

// Pods returns the pods of this node, in no order.
func (c *Cache) Pods() []cni.Pod {
	var out []cni.Pod
	for _, object := range c.pods.GetStore().List() {
		out = append(out, podOf(object.(*metav1.PartialObjectMetadata), ""))
	}
	return out
}

// errNoNetwork marks the refusal of a definition that does not exist.
var errNoNetwork = errors.New("no such NetworkAttachmentDefinition")

// Definition returns a definition, waiting a moment (Options.DefinitionWait) for
// one that was created just now, and longer, until ctx ends, while the cache is
// not filled yet. One that does not exist is a refusal whose field is the
// networks annotation; its object is left for the caller, who knows the pod.
func (c *Cache) Definition(ctx context.Context, namespace, name string) (cni.Definition, error) {
	key := namespace + "/" + name
	changed, done := c.wake.on(definitionKind, key)
	defer done()
	synced := c.definitions.HasSyncedChecker().Done()
	var enough <-chan time.Time
	for {
		if object, exists, _ := c.definitions.GetStore().GetByKey(key); exists {
			return definitionOf(object.(*nad.NetworkAttachmentDefinition)), nil
		}
		select {
		case <-changed:
		case <-synced:
			synced = nil
			timer := time.NewTimer(c.wait)
			defer timer.Stop()
			enough = timer.C
		case <-enough:
			return cni.Definition{}, c.unknown(namespace, key)
		case <-ctx.Done():
			return cni.Definition{}, fmt.Errorf("wait for NetworkAttachmentDefinition %s: %w", key, ctx.Err())
		}
	}
}

func definitionOf(d *nad.NetworkAttachmentDefinition) cni.Definition {
	return cni.Definition{Namespace: d.Namespace, Name: d.Name, Resource: d.Annotations[resourceAnnotation], Config: d.Spec.Config}
}

// mostNames is how many names a refusal lists: it has to fit an event.
const mostNames = 10

func (c *Cache) unknown(namespace, key string) error {
	objects, _ := c.definitions.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	var names []string
	for _, object := range objects {
		names = append(names, object.(*nad.NetworkAttachmentDefinition).Name)
	}
	slices.Sort(names)
	allowed := "a NetworkAttachmentDefinition that exists; namespace " + namespace + " has "
	switch {
	case len(names) == 0:
		allowed += "none"
	case len(names) > mostNames:
		allowed += strings.Join(names[:mostNames], ", ") + fmt.Sprintf(" and %d more", len(names)-mostNames)
	default:
		allowed += strings.Join(names, ", ")
	}
	return refusal.New("", networksAnnotation, key, allowed).Because(errNoNetwork)
}
