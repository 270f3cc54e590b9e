package kube

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// typed returns objects as their Go type; those that are not of it are left out.
func typed[T any](objects []*unstructured.Unstructured) []*T {
	var out []*T
	for _, u := range objects {
		t := new(T)
		if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, t) == nil {
			out = append(out, t)
		}
	}
	return out
}

// vfsOf puts together what policies, nodes' states and labels say.
func vfsOf(policies, states []*unstructured.Unstructured, labels func(node string) map[string]string) *validate.VFs {
	out := &validate.VFs{Policies: typed[vfv1alpha1.VFPolicy](policies)}
	for _, s := range typed[vfv1alpha1.NodeVFState](states) {
		out.Nodes = append(out.Nodes, validate.VFNode{Name: s.Name, Labels: labels(s.Name), State: &s.Status})
	}
	return out
}

// vfs are the VFs as the cache has them. Who has which is not known: that would
// take pods.
func (c *Cache) vfs() *validate.VFs {
	return vfsOf(listed[unstructured.Unstructured](c.policies), listed[unstructured.Unstructured](c.states), func(node string) map[string]string {
		if n := stored[corev1.Node](c.nodes, node); n != nil {
			return n.Labels
		}
		return nil
	})
}

// lookAtVFs asks for VFs, as far as the user may see them; holders are by node and
// PCI address.
func (s *sources) lookAtVFs(ctx context.Context, nodes []corev1.Node, holders map[string]map[string]string) *validate.VFs {
	if !s.vfs {
		return nil
	}
	policies, err := s.objects.Resource(vfv1alpha1.VFPolicies).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	states, err := s.objects.Resource(vfv1alpha1.NodeVFStates).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	labels := map[string]map[string]string{}
	for _, n := range nodes {
		labels[n.Name] = n.Labels
	}
	out := vfsOf(pointers(policies.Items), pointers(states.Items), func(node string) map[string]string { return labels[node] })
	for i, n := range out.Nodes {
		if holders != nil {
			out.Nodes[i].Holder = func(address string) string { return holders[n.Name][address] }
		}
	}
	return out
}

// statusAnnotation is where the meta-plugin says what a pod got (NPWG v1.3
// section 5).
const statusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// holdersOf returns which pod has which PCI device, by node: "pod <namespace>/<name>".
func holdersOf(pods []corev1.Pod) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, p := range pods {
		var status []struct {
			DeviceInfo struct {
				PCI struct {
					Address string `json:"pci-address"`
				} `json:"pci"`
			} `json:"device-info"`
		}
		if json.Unmarshal([]byte(p.Annotations[statusAnnotation]), &status) != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, s := range status {
			if address := s.DeviceInfo.PCI.Address; address != "" {
				if out[p.Spec.NodeName] == nil {
					out[p.Spec.NodeName] = map[string]string{}
				}
				out[p.Spec.NodeName][address] = "pod " + p.Namespace + "/" + p.Name
			}
		}
	}
	return out
}
