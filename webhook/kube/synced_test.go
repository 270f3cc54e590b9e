package kube_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/webhook/report"
)

// TestSyncedIsKnown: a replica that says it is ready knows what it has seen. One
// that has the switches in its store only would let in pods without the networks
// that they are to get by label.
func TestSyncedIsKnown(t *testing.T) {
	w := newWorld(t)
	const many = 200
	for i := range many {
		w.define(fmt.Sprintf("n%d", i), `{"type":"macvlan"}`)
		annotations := map[string]string{report.PluginsAnnotation: strings.Repeat("bandwidth,bond,bridge,", 20) + "last", report.LinksAnnotation: strings.Repeat("ens1f0np0,", 40)}
		node, err := w.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "many-", Annotations: annotations}, Spec: corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.9.%d.0/24", i), PodCIDRs: []string{fmt.Sprintf("10.9.%d.0/24", i)}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = w.client.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{})
		})
	}
	switches := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "switches"}, Data: map[string]string{"config.json": `{"user-defined-injections":{"l":{"op":"add","path":"/metadata/annotations","value":{"k":"v"}}}}`}}
	if _, err := w.client.CoreV1().ConfigMaps(w.namespace).Create(t.Context(), switches, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		c := w.cache()
		f := c.Facts()
		seen := 0
		for _, s := range f.Networks.Summaries() {
			if s.Namespace == w.namespace {
				seen++
			}
		}
		if seen != many || len(f.PodNets) < many || len(f.Plugins) == 0 || len(c.Injector().Injections) != 1 {
			t.Errorf("%d of %d definitions in brief, the networks of %d nodes, %d plugins, %d injections", seen, many, len(f.PodNets), len(f.Plugins), len(c.Injector().Injections))
		}
	}
}
