package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

func policyInformer(client dynamic.Interface) (cache.SharedIndexInformer, error) {
	policies := client.Resource(v1alpha1.VFPolicies)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return policies.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return policies.Watch(ctx, o)
		},
	}
	i := cache.NewSharedIndexInformerWithOptions(lw, &unstructured.Unstructured{}, cache.SharedIndexInformerOptions{})
	return i, i.SetTransform(func(o any) (any, error) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			u.SetManagedFields(nil)
			u.SetAnnotations(nil)
		}
		return o, nil
	})
}

// nodeInformer watches the metadata of one node: its labels are all that is
// needed, and a node's status changes every few seconds.
func nodeInformer(client metadata.Interface, name string) (cache.SharedIndexInformer, error) {
	nodes := client.Resource(nodesResource)
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return nodes.Watch(ctx, o)
		},
	}
	i := cache.NewSharedIndexInformerWithOptions(lw, &metav1.PartialObjectMetadata{}, cache.SharedIndexInformerOptions{})
	return i, i.SetTransform(func(o any) (any, error) {
		m, ok := o.(*metav1.PartialObjectMetadata)
		if !ok {
			return o, nil
		}
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels,
		}}, nil
	})
}

// sort takes the policies for this node out of the cache.
func (a *Adapter) sort() {
	var objects []*unstructured.Unstructured
	for _, o := range a.policies.GetStore().List() {
		if u, ok := o.(*unstructured.Unstructured); ok {
			objects = append(objects, u)
		}
	}
	mine, refused := sorted(objects, a.labels())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mine, a.refused = mine, refused
}

// Fetch returns the valid policies for the node of that name, and those that are
// refused, by one look at the API server: for a plan that is only printed.
func Fetch(ctx context.Context, config *rest.Config, node string) ([]vf.Policy, []v1alpha1.PolicyState, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "", ""
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make client for VF policies: %w", err)
	}
	n, err := objects.Resource(nodesResource).Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read node %s: %w", node, err)
	}
	list, err := objects.Resource(v1alpha1.VFPolicies).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list VF policies: %w", err)
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	mine, refused := sorted(all, n.GetLabels())
	return policies(mine), refused, nil
}

// sorted are the policies for a node with these labels: valid ones, by name, and
// those that are refused.
func sorted(objects []*unstructured.Unstructured, labels map[string]string) (mine []known, refused []v1alpha1.PolicyState) {
	for _, u := range objects {
		var p v1alpha1.VFPolicy
		err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &p, true)
		if err == nil && !p.Selects(labels) {
			continue
		}
		var q vf.Policy
		if err == nil {
			q, err = v1alpha1.Policy(&p)
		}
		if err != nil {
			refused = append(refused, v1alpha1.PolicyState{
				Name: u.GetName(), Generation: u.GetGeneration(), Reason: string(vf.Refused), Message: err.Error(),
			})
			continue
		}
		mine = append(mine, known{policy: q, generation: p.Generation})
	}
	slices.SortFunc(mine, func(x, y known) int { return strings.Compare(x.policy.Name, y.policy.Name) })
	return mine, refused
}
