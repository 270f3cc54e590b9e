package addresses

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// oldCRD is what whereabouts installs of one kind, as far as names go.
const oldCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.whereabouts.cni.cncf.io}
spec:
  group: whereabouts.cni.cncf.io
  scope: Namespaced
  names: {kind: %[2]s, listKind: %[2]sList, singular: %[3]s, plural: %[1]s}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

var reservations = schema.GroupVersionResource{Group: "whereabouts.cni.cncf.io", Version: "v1alpha1", Resource: "overlappingrangeipreservations"}

// installOld makes the definitions of whereabouts, until the test ends.
func (c *cluster) installOld(t *testing.T) {
	t.Helper()
	crds := c.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for plural, kind := range map[string]string{"ippools": "IPPool", "overlappingrangeipreservations": "OverlappingRangeIPReservation"} {
		file := filepath.Join(t.TempDir(), plural+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, oldCRD, plural, kind, plural[:len(plural)-1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.api.InstallCRDs(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := crds.Delete(context.Background(), plural+".whereabouts.cni.cncf.io", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// old makes an object of whereabouts.
func (c *cluster) old(t *testing.T, resource, kind, name string, spec map[string]any) {
	t.Helper()
	gvr := reservations
	gvr.Resource = resource
	_, err := c.dynamic.Resource(gvr).Namespace("kube-system").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// TestInvariant5BesideWhereabouts: a daemon that nobody told finds whereabouts at
// work in the cluster, takes no address that a pod of it has, and says which it has
// taken itself.
func TestInvariant5BesideWhereabouts(t *testing.T) {
	c, err := start()
	if err != nil {
		t.Fatal(err)
	}
	c.installOld(t)
	c.old(t, "ippools", "IPPool", "old-10.0.0.0-24", map[string]any{"range": "10.0.0.0/24", "allocations": map[string]any{
		"1": map[string]any{"id": "one", "podref": "old/without-reservation", "ifname": "net1"},
	}})
	c.old(t, "overlappingrangeipreservations", "OverlappingRangeIPReservation", "old-10.0.0.2", map[string]any{"podref": "old/with-reservation"})
	_, m := world(t, "beside-1")
	c.define(t, "beside", "red", m[0].whereabouts(`"range":"10.0.0.0/24","network_name":"old"`))
	p := m[0].pod("beside", "p", "red")
	if got := fmt.Sprint(m[0].mustAdd(p, "net1")); got != "[10.0.0.3/24]" {
		t.Errorf("pod has %s", got)
	}
	owner := func() string {
		r, err := c.dynamic.Resource(reservations).Namespace("kube-system").Get(t.Context(), "old-10.0.0.3", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		ref, _, _ := unstructured.NestedString(r.Object, "spec", "podref")
		return ref
	}
	if got := owner(); got != "tendril/beside-1" {
		t.Errorf("whereabouts sees %s", got)
	}
	m[0].mustDel(p)
	eventually(t, "the reservation to be gone", func() (string, bool) {
		got := owner()
		return got, got != "tendril/beside-1"
	})
}
