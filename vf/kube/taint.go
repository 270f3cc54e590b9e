package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// taint takes the taint away when the state is settled, and, with Guard, puts it
// there as long as no state was. After the first settled state it is nobody's any
// more: later changes must not make a node unschedulable.
func (w *writer) taint(ctx context.Context, s *vf.State) error {
	a := w.adapter
	want := !s.Settled()
	if w.settled || want && !a.opts.Guard {
		return nil
	}
	if want && w.tainted {
		return nil
	}
	if err := a.setTaint(ctx, want); err != nil {
		return err
	}
	w.tainted, w.settled = want, !want
	return nil
}

// operation is one line of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// setTaint brings the node's taint to what is wanted. The patch holds for the list
// of taints that was seen and for no other, so that no taint of others is lost.
func (a *Adapter) setTaint(ctx context.Context, want bool) error {
	nodes := a.dynamic.Resource(nodesResource)
	object, err := nodes.Get(ctx, a.node, metav1.GetOptions{})
	var node corev1.Node
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &node)
	}
	if err != nil {
		return fmt.Errorf("read taints of node %s: %w", a.node, err)
	}
	before := node.Spec.Taints
	if slices.ContainsFunc(before, isOurs) == want {
		return nil
	}
	after := slices.DeleteFunc(slices.Clone(before), isOurs)
	if want {
		after = append(after, corev1.Taint{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	patch := []operation{{"test", "/metadata/resourceVersion", node.ResourceVersion}, {"add", "/spec/taints", after}}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	if _, err := nodes.Patch(ctx, a.node, types.JSONPatchType, data, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("write taints of node %s: %w", a.node, err)
	}
	a.log.Info("taint of the node changed", "node", a.node, "taint", v1alpha1.NotReadyTaint, "set", want)
	return nil
}

func isOurs(t corev1.Taint) bool { return t.Key == v1alpha1.NotReadyTaint }
