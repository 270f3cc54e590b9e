package kube

import (
	"context"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned/typed/k8s.cni.cncf.io/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var podsResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// podInformer watches the metadata of the pods of node. Metadata alone, since
// that is where annotations and UIDs are: the API server then leaves out the
// rest, which is nine tenths of a pod.
func podInformer(config *rest.Config, node string, h *heard) (cache.SharedIndexInformer, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	pods := client.Resource(podsResource)
	selector := fields.OneTermEqualSelector("spec.nodeName", node).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			list, err := pods.List(ctx, o)
			return list, h.of(err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return h.watch(pods.Watch(ctx, o))
		},
	}
	informer := cache.NewSharedIndexInformerWithOptions(lw, &metav1.PartialObjectMetadata{}, cache.SharedIndexInformerOptions{})
	return informer, informer.SetTransform(slimPod)
}

// definitionInformer watches the definitions of all namespaces.
func definitionInformer(config *rest.Config, h *heard) (cache.SharedIndexInformer, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "", "" // custom resources come as JSON
	client, err := nadclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	definitions := client.NetworkAttachmentDefinitions(metav1.NamespaceAll)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := definitions.List(ctx, o)
			return list, h.of(err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return h.watch(definitions.Watch(ctx, o))
		},
	}
	informer := cache.NewSharedIndexInformerWithOptions(lw, &nad.NetworkAttachmentDefinition{}, cache.SharedIndexInformerOptions{
		Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
	})
	return informer, informer.SetTransform(slimDefinition)
}

// kept are the prefixes of pod annotations that the engine may look at. Others,
// such as kubectl's copy of the whole manifest, are not held in memory.
var kept = []string{"k8s.v1.cni.cncf.io/", "v1.multus-cni.io/", "tendril.dev/", "kubernetes.io/config."}

// statefulSet is the one kind of owner that is told, in whatever version: its pods'
// names come again. Others' StatefulSets are not known to who looks after ordinals.
var statefulSet = schema.GroupKind{Group: "apps", Kind: "StatefulSet"}

// slimPod keeps what Pod answers with, and what informers need.
func slimPod(object any) (any, error) {
	p, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil // a tombstone
	}
	slim := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}}
	if owner := metav1.GetControllerOf(p); owner != nil && schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind() == statefulSet {
		slim.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	for k, v := range p.Annotations {
		for _, prefix := range kept {
			if strings.HasPrefix(k, prefix) {
				metav1.SetMetaDataAnnotation(&slim.ObjectMeta, k, v)
			}
		}
	}
	return slim, nil
}

// slimDefinition keeps what Definition answers with, and what informers need.
func slimDefinition(object any) (any, error) {
	d, ok := object.(*nad.NetworkAttachmentDefinition)
	if !ok {
		return object, nil
	}
	slim := &nad.NetworkAttachmentDefinition{Spec: d.Spec, ObjectMeta: metav1.ObjectMeta{
		Namespace: d.Namespace, Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion,
	}}
	if resource := d.Annotations[resourceAnnotation]; resource != "" {
		slim.Annotations = map[string]string{resourceAnnotation: resource}
	}
	return slim, nil
}
