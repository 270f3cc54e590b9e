package kube_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func (w *world) annotate(pod *corev1.Pod, key, value string) {
	w.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if _, err := w.client.CoreV1().Pods(w.namespace).Patch(w.t.Context(), pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// TestChangedNetworksArePlugged, again after an error, and not after a refusal.
func TestChangedNetworksArePlugged(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	plugged := make(chan string, 100)
	fails := map[string]error{"late": errors.New("busy"), "bad": refusal.New("pod", "networks", "bad", "good")}
	w.background(func(ctx context.Context) error {
		return c.OnNetworks(ctx, func(_ context.Context, p cni.Pod) error {
			networks := p.Annotations["k8s.v1.cni.cncf.io/networks"]
			err := fails[networks]
			if networks == "late" {
				delete(fails, networks)
			}
			plugged <- p.Name + " " + networks
			return err
		})
	})
	pod := w.create("web", node, map[string]string{"k8s.v1.cni.cncf.io/networks": "one"})
	if _, err := c.Pod(w.within(patience), w.namespace, "web", ""); err != nil {
		t.Fatal(err)
	}
	w.annotate(pod, "k8s.v1.cni.cncf.io/network-status", "[]") // not a wish
	for _, networks := range []string{"late", "bad", "two"} {
		w.annotate(pod, "k8s.v1.cni.cncf.io/networks", networks)
		want := []string{"web " + networks}
		if networks == "late" {
			want = append(want, want[0])
		}
		for _, one := range want {
			select {
			case got := <-plugged:
				if got != one {
					t.Errorf("plugged %q, want %q", got, one)
				}
			case <-time.After(patience):
				t.Fatalf("%q was not plugged", one)
			}
		}
	}
	if len(plugged) > 0 {
		t.Errorf("plugged once more: %q", <-plugged)
	}
}

func TestEventsAboutRunningPodsAndTheNode(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	r, _ := w.reporter(c, nil)
	pod := w.create("web", node, nil)
	r.Removed(ref(pod), "blue/storage", "net1")
	r.NotRemoved(ref(pod), errors.New("busy"))
	r.Missing(ref(pod), "it is lost")
	r.NodeWarning("CNIConfigurationRestored", "by "+w.namespace)
	for namespace, wants := range map[string][]string{
		w.namespace: {"Normal RemovedInterface Pod/web Remove net1 from blue/storage", "Warning FailedRemovingInterface Pod/web busy", "Warning InterfaceMissing Pod/web it is lost"},
		"default":   {"Warning CNIConfigurationRestored Node/node1 by " + w.namespace},
	} {
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			events, err := w.client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var seen strings.Builder
			for _, e := range events.Items {
				fmt.Fprintf(&seen, "%s %s %s/%s %s\n", e.Type, e.Reason, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Message)
			}
			missing := false
			for _, want := range wants {
				missing = missing || !strings.Contains(seen.String(), want)
			}
			if !missing {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("events in %s are\n%swant %q", namespace, seen.String(), wants)
			}
		}
	}
}

func TestRunning(t *testing.T) {
	w := newWorld(t)
	r, _ := w.reporter(w.cache(kube.Options{}), nil)
	pod := w.create("web", node, nil)
	for _, phase := range []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded} {
		pod.Status.Phase = phase
		var err error
		if pod, err = w.client.CoreV1().Pods(w.namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if running, over, err := r.Running(t.Context(), ref(pod)); err != nil || running != (phase == corev1.PodRunning) || over != (phase == corev1.PodSucceeded) {
			t.Errorf("%s: running=%v, over=%v (%v)", phase, running, over, err)
		}
	}
	if running, over, err := r.Running(t.Context(), cni.PodRef{Namespace: w.namespace, Name: "nobody"}); err != nil || running || !over {
		t.Errorf("a pod that is gone: running=%v, over=%v (%v)", running, over, err)
	}
}
