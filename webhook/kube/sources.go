package kube

import (
	"context"
	"fmt"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned/typed/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
)

// sources are the clients that informers are made of.
type sources struct {
	client      kubernetes.Interface
	definitions nadclient.NetworkAttachmentDefinitionsGetter
	objects     dynamic.Interface
	looks       chan struct{} // those at address blocks that are under way
	claims      bool          // the API server has resource.k8s.io/v1
	vfs         bool          // and the kinds of VF policies
}

func newSources(config *rest.Config) (*sources, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	definitions, err := nadclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	// Custom resources come as JSON, whatever the other clients speak.
	json := rest.CopyConfig(config)
	json.ContentType, json.AcceptContentTypes = "", ""
	objects, err := dynamic.NewForConfig(json)
	if err != nil {
		return nil, err
	}
	s := &sources{client: client, definitions: definitions, objects: objects, looks: make(chan struct{}, mostHeld)}
	groups, err := client.Discovery().ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("ask which APIs there are: %w", err)
	}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			s.claims = s.claims || v.GroupVersion == resourcev1.SchemeGroupVersion.String()
		}
	}
	s.vfs, err = s.hasVFs()
	return s, err
}

// hasVFs reports whether both kinds of VF policies are installed.
func (s *sources) hasVFs() (bool, error) {
	list, err := s.client.Discovery().ServerResourcesForGroupVersion(vfv1alpha1.GroupVersion.String())
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for the kinds of %s: %w", vfv1alpha1.GroupVersion, err)
	}
	found := map[string]bool{}
	for _, r := range list.APIResources {
		found[r.Name] = true
	}
	return found[vfv1alpha1.VFPolicies.Resource] && found[vfv1alpha1.NodeVFStates.Resource], nil
}

// lister is one resource of one namespace, or of all.
type lister[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// informer watches objects of example's type; slim keeps of each what is looked
// at. selector is a field selector, empty for all.
func informer[T any, L runtime.Object](from lister[L], example runtime.Object, selector string, slim func(*T) *T) cache.SharedIndexInformer {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return from.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return from.Watch(ctx, o)
		},
	}
	i := cache.NewSharedIndexInformerWithOptions(lw, example, cache.SharedIndexInformerOptions{})
	// It fails on an informer that runs already, which this one does not.
	_ = i.SetTransform(func(o any) (any, error) {
		if full, ok := o.(*T); ok {
			return slim(full), nil
		}
		return o, nil // a tombstone
	})
	return i
}

// byName selects the one object of that name.
func byName(name string) string {
	return fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
}

// slimMeta is what informers need of every object.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

func (s *sources) networkInformer() cache.SharedIndexInformer {
	return informer(s.definitions.NetworkAttachmentDefinitions(metav1.NamespaceAll), &nad.NetworkAttachmentDefinition{}, "", func(d *nad.NetworkAttachmentDefinition) *nad.NetworkAttachmentDefinition {
		slim := &nad.NetworkAttachmentDefinition{ObjectMeta: slimMeta(d.ObjectMeta), Spec: d.Spec}
		slim.Annotations = d.Annotations // the operator chooses which of them name resources
		delete(slim.Annotations, corev1.LastAppliedConfigAnnotation)
		return slim
	})
}

func (s *sources) nodeInformer() cache.SharedIndexInformer {
	return informer(s.client.CoreV1().Nodes(), &corev1.Node{}, "", func(n *corev1.Node) *corev1.Node {
		slim := &corev1.Node{ObjectMeta: slimMeta(n.ObjectMeta)}
		slim.Labels, slim.Annotations = n.Labels, reported(n.Annotations)
		slim.Spec.PodCIDRs = n.Spec.PodCIDRs
		slim.Status.Allocatable, slim.Status.Addresses = n.Status.Allocatable, n.Status.Addresses
		return slim
	})
}

func (s *sources) policyInformer() cache.SharedIndexInformer {
	return informer(s.objects.Resource(vfv1alpha1.VFPolicies), &unstructured.Unstructured{}, "", func(u *unstructured.Unstructured) *unstructured.Unstructured {
		u.SetManagedFields(nil)
		u.SetAnnotations(nil)
		return u
	})
}

func (s *sources) stateInformer() cache.SharedIndexInformer {
	return informer(s.objects.Resource(vfv1alpha1.NodeVFStates), &unstructured.Unstructured{}, "", func(u *unstructured.Unstructured) *unstructured.Unstructured {
		slim := &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}}
		slim.SetName(u.GetName())
		slim.SetUID(u.GetUID())
		slim.SetResourceVersion(u.GetResourceVersion())
		if pfs, has, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "pfs"); has {
			slim.Object["status"] = map[string]any{"pfs": pfs}
		}
		return slim
	})
}

func (s *sources) switchesInformer(namespace, name string) cache.SharedIndexInformer {
	return informer(s.client.CoreV1().ConfigMaps(namespace), &corev1.ConfigMap{}, byName(name), func(m *corev1.ConfigMap) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: slimMeta(m.ObjectMeta), Data: m.Data}
	})
}

func (s *sources) classInformer() cache.SharedIndexInformer {
	return informer(s.client.ResourceV1().DeviceClasses(), &resourcev1.DeviceClass{}, "", func(d *resourcev1.DeviceClass) *resourcev1.DeviceClass {
		slim := &resourcev1.DeviceClass{ObjectMeta: slimMeta(d.ObjectMeta)}
		slim.Spec.Selectors, slim.Spec.ExtendedResourceName = d.Spec.Selectors, d.Spec.ExtendedResourceName
		return slim
	})
}

func (s *sources) claimInformer() cache.SharedIndexInformer {
	return informer(s.client.ResourceV1().ResourceClaims(metav1.NamespaceAll), &resourcev1.ResourceClaim{}, "", func(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
		slim := &resourcev1.ResourceClaim{ObjectMeta: slimMeta(c.ObjectMeta)}
		slim.Spec.Devices.Requests = c.Spec.Devices.Requests
		return slim
	})
}

func (s *sources) templateInformer() cache.SharedIndexInformer {
	return informer(s.client.ResourceV1().ResourceClaimTemplates(metav1.NamespaceAll), &resourcev1.ResourceClaimTemplate{}, "", func(c *resourcev1.ResourceClaimTemplate) *resourcev1.ResourceClaimTemplate {
		slim := &resourcev1.ResourceClaimTemplate{ObjectMeta: slimMeta(c.ObjectMeta)}
		slim.Spec.Spec.Devices.Requests = c.Spec.Spec.Devices.Requests
		return slim
	})
}
