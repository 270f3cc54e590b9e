package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// make creates an object of YAML for the time of the test, with its status.
func (w *world) make(resource schema.GroupVersionResource, text string) {
	w.t.Helper()
	objects, err := dynamic.NewForConfig(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	var o unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		w.t.Fatal(err)
	}
	made, err := objects.Resource(resource).Create(w.t.Context(), &o, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = objects.Resource(resource).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{})
	})
	if status, has := o.Object["status"]; has {
		made.Object["status"] = status
		if _, err := objects.Resource(resource).UpdateStatus(w.t.Context(), made, metav1.UpdateOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

const (
	policyText = `{apiVersion: tendril.dev/v1alpha1, kind: VFPolicy, metadata: {name: fast}, spec: {nodeSelector: {zone: vfs}, nicSelector: {pfNames: [eth0]}, numVFs: 2, resourceName: a}}`
	stateText  = `{apiVersion: tendril.dev/v1alpha1, kind: NodeVFState, metadata: {name: %s}, status: {pfs: [{address: "0000:01:00.0", name: eth0, numaNode: 0, totalVFs: 8, numVFs: 2, linkUp: true, madeByTendril: true,
  vfs: [{index: 0, address: "0000:01:10.0", driver: igbvf}, {index: 1, address: "0000:01:10.1", driver: igbvf}]}]}}`
)

// TestVFPolicyChangeIsToldByWhatNodesReport: admission names node and VF; lint,
// which may see pods, the pod as well.
func TestVFPolicyChangeIsToldByWhatNodesReport(t *testing.T) {
	w := newWorld(t)
	node, err := w.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "vfs-", Labels: map[string]string{"zone": "vfs"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{}) })
	w.make(vfv1alpha1.VFPolicies, policyText)
	w.make(vfv1alpha1.NodeVFStates, fmt.Sprintf(stateText, node.Name))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{"k8s.v1.cni.cncf.io/network-status": `[{"name":"lab"},{"name":"x/fast","device-info":{"type":"pci","pci":{"pci-address":"0000:01:10.1"}}}]`}},
		Spec:       corev1.PodSpec{NodeName: node.Name, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	if _, err := w.client.CoreV1().Pods(w.namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	smaller := strings.Replace(policyText, "numVFs: 2", "numVFs: 1", 1)
	raw, err := yaml.YAMLToJSON([]byte(smaller))
	if err != nil {
		t.Fatal(err)
	}
	said := func(f validate.Facts) string {
		out, _ := json.Marshal((validate.Rules{Facts: f, Checks: validate.Domains()}).Object(validate.VFPolicyKind, "", nil, raw))
		return string(out)
	}
	c := w.cache()
	w.eventually("the warning of admission", func() error {
		if got := said(c.Facts()); !strings.Contains(got, "VF 1 of PF eth0 on node "+node.Name) {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	f, err := kube.Look(t.Context(), w.config, validate.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if got := said(f); !strings.Contains(got, "VF 1 of pod "+w.namespace+"/p of PF eth0 on node "+node.Name) {
		t.Errorf("lint says %s", got)
	}
}
