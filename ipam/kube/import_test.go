package kube_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam/reclaim"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	"github.com/tendril-cni/tendril/ipam/whereabouts"
)

// TestInvariant5ImportedAddressesAreTheirPodsOwn: what whereabouts gave to pods that
// run is nobody else's until they go; what it leaked stays free.
func TestInvariant5ImportedAddressesAreTheirPodsOwn(t *testing.T) {
	space := newSpace()
	client, err := kubernetes.NewForConfig(server.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "imported-" + space
	_, err = client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, server.Config(t), "import-"+space)
	_, _ = withNode(t, b)
	b.start(t)
	c := shared(t, space, `"range":"10.0.0.0/29"`)
	b.mustAdd(t, c, 1) // 10.0.0.1
	var pool whereabouts.Pool
	pool.Metadata.Name, pool.Spec.Range = space+"-10.0.0.0-29", "10.0.0.0/29"
	pool.Spec.Allocations = map[string]whereabouts.Allocation{
		"1": {ContainerID: "a", PodRef: "default/" + name, IfName: "net2"},
		"2": {ContainerID: "b", PodRef: "default/" + name, IfName: "net1"},
		"3": {ContainerID: "c", PodRef: "default/leaked", IfName: "net1"},
	}
	uid := func(ctx context.Context, ref string) (string, error) {
		pod, err := client.CoreV1().Pods("default").Get(ctx, strings.TrimPrefix(ref, "default/"), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return string(pod.UID), err
	}
	states := func(write bool) string {
		found, err := whereabouts.Import(t.Context(), newClient(t), uid, []whereabouts.Pool{pool}, write)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range found {
			out = append(out, fmt.Sprintf("%s %s", f.Addr, f.State))
		}
		return strings.Join(out, ", ")
	}
	const first = "10.0.0.1 taken, 10.0.0.2 imported, 10.0.0.3 orphan"
	for _, step := range []struct {
		write bool
		want  string
	}{{false, first}, {true, first}, {true, strings.Replace(first, "imported", "known", 1)}} {
		if got := states(step.write); got != step.want {
			t.Fatalf("import, write %v: %s, want %s", step.write, got, step.want)
		}
	}
	for i, want := range []string{"[10.0.0.3]", "[10.0.0.4]", "[10.0.0.5]", "[10.0.0.6]"} {
		if got := b.mustAdd(t, c, 2+i); got != want {
			t.Errorf("next pod has %s, want %s", got, want)
		}
	}
	r := reclaim.New(newClient(t), client, reclaim.Options{Log: quiet()})
	imported := func() *v1alpha1.Slot {
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		block, err := newClient(t).Get(t.Context(), "10-0-0-0."+space, false)
		if err != nil || block == nil {
			t.Fatal(block, err)
		}
		return block.At(2)
	}
	if s := imported(); s == nil || s.Claim == "" {
		t.Fatalf("the address of a pod that runs is reclaimed: %+v", s)
	}
	if err := client.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the address is in quarantine", func() bool { s := imported(); return s != nil && s.Until != nil })
}

// TestPoolsOfNodeSlicesAreNotImported: their addresses would go into a space that is
// called like the node, and be given again in their own.
func TestPoolsOfNodeSlicesAreNotImported(t *testing.T) {
	old := whereaboutsClient(t)
	for name, pool := range map[string]string{"unnamed": "worker-7-10.9.0.64-26", "named": "blue-worker-7-10.9.0.64-26"} {
		t.Run(name, func(t *testing.T) {
			namespace := "slices-" + name
			if err := server.API(t).Apply(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s}}
---
{apiVersion: whereabouts.cni.cncf.io/v1alpha1, kind: IPPool, metadata: {name: red-10.9.0.0-24, namespace: %[1]s}, spec: {range: 10.9.0.0/24, allocations: {}}}
`, namespace)); err != nil {
				t.Fatal(err)
			}
			reservations, err := whereabouts.NewReservations(server.Config(t), namespace, "")
			if err != nil {
				t.Fatal(err)
			}
			if pools, err := reservations.Importable(t.Context()); err != nil || len(pools) != 1 {
				t.Fatalf("without slices: %v, %v", pools, err)
			}
			for resource, text := range map[string]string{
				"ippools": fmt.Sprintf(`{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{"name":%q},
					"spec":{"range":"10.9.0.64/26","allocations":{"1":{"id":"a","podref":"default/p","ifname":"net1"}}}}`, pool),
				"nodeslicepools": `{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"NodeSlicePool","metadata":{"name":"blue"},
					"spec":{"range":"10.9.0.0/24","sliceSize":"/26"},"status":{"allocations":[{"nodeName":"","sliceRange":"10.9.0.0/26"},{"nodeName":"worker-7","sliceRange":"10.9.0.64/26"}]}}`,
			} {
				if err := old.Post().Namespace(namespace).Resource(resource).Body([]byte(text)).Do(t.Context()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			_, err = reservations.Importable(t.Context())
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Object != "IPPool "+pool || !strings.Contains(r.Allowed, "worker-7") {
				t.Errorf("got %v", err)
			}
		})
	}
}
