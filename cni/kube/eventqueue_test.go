package kube_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
)

// TestStatusesAndWarningsComeFirst: what people can read in the status as well
// waits for them, whatever came first.
func TestStatusesAndWarningsComeFirst(t *testing.T) {
	w := newWorld(t)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	told, warned := w.create("told", node, nil), w.create("warned", node, nil)
	burst := make([]*corev1.Pod, 20)
	for i := range burst {
		burst[i] = w.create(fmt.Sprintf("web-%d", i), node, nil)
	}
	r.Added(ref(told), []cni.Made{{Network: "cbr0", IfName: "eth0"}})
	for _, pod := range burst {
		r.Publish(ref(pod), entry("cbr0"))
	}
	r.Refused(ref(warned), errors.New("vlan 5000 is not allowed"))
	w.eventually("both events are there", func() bool { return len(w.events(warned)) == 1 && len(w.events(told)) == 1 })
	added := w.eventVersion(told)
	if added < w.eventVersion(warned) {
		t.Error("the warning came second")
	}
	for _, pod := range burst {
		if w.status(pod.Name) == "" || added < w.podVersion(pod.Name) {
			t.Errorf("the event of the interfaces was written before the status of %s", pod.Name)
		}
	}
}

// TestEventsComeInAnEndlessBurst: a node that never comes to rest tells all the same.
func TestEventsComeInAnEndlessBurst(t *testing.T) {
	w := newWorld(t)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	pod := w.create("web", node, nil)
	r.Added(ref(pod), []cni.Made{{Network: "cbr0", IfName: "eth0"}})
	w.eventually("the event", func() bool {
		r.Publish(ref(pod), entry("cbr0"))
		return len(w.events(pod)) == 1
	})
}

// TestInterfacesMayBeLeftToTheStatus: without their event an ADD is one write, and a
// refusal is told all the same.
func TestInterfacesMayBeLeftToTheStatus(t *testing.T) {
	w := newWorld(t)
	r, stop := w.reporterOf(w.cache(kube.Options{}), kube.Options{QPS: -1, NoAdded: true}, nil)
	pod := w.create("web", node, nil)
	r.Publish(ref(pod), entry("cbr0"))
	r.Added(ref(pod), []cni.Made{{Network: "cbr0", IfName: "eth0"}})
	r.Refused(ref(pod), errors.New("vlan 5000 is not allowed"))
	stop()
	if got := names(t, w.status("web")); got != "cbr0" {
		t.Errorf("status %q", got)
	}
	if got, want := w.events(pod), []string{"Warning FailedAddingInterface x1: vlan 5000 is not allowed"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// podVersion and eventVersion are the API server's revisions of their last writes.
func (w *world) podVersion(name string) uint64 {
	w.t.Helper()
	pod, err := w.client.CoreV1().Pods(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.version(pod.ResourceVersion)
}

func (w *world) eventVersion(pod *corev1.Pod) uint64 {
	w.t.Helper()
	list, err := w.client.CoreV1().Events(w.namespace).List(w.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil || len(list.Items) != 1 {
		w.t.Fatalf("events of %s: %v, %v", pod.Name, list, err)
	}
	return w.version(list.Items[0].ResourceVersion)
}

func (w *world) version(text string) uint64 {
	w.t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
