package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
)

// TestPodsThatAreOverAreAskedAboutOnce: those of Jobs stay for days, and each of them
// would cost the API server a request a minute.
func TestPodsThatAreOverAreAskedAboutOnce(t *testing.T) {
	var asked atomic.Int64
	socket := filepath.Join(t.TempDir(), "api.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/blue/pods/") {
			return
		}
		asked.Add(1)
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: name}}
		switch name {
		case "over":
			pod.Status.Phase = corev1.PodSucceeded
		case "host":
			pod.Spec.HostNetwork, pod.Status.Phase = true, corev1.PodRunning
		case "early":
			pod.Status.Phase = corev1.PodPending
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(pod)
	}))
	api.Listener = ln
	api.Start()
	defer api.Close()
	log, config := slog.New(slog.DiscardHandler), &rest.Config{Host: "http://api", Dial: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}
	cache, err := kube.NewCache(config, "n1", kube.Options{}, log)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Config: Config{Log: log}, upkeep: &upkeep{}, counts: newCounts()}
	if d.reporter, err = kube.NewReporter(config, "n1", cache, kube.Options{}, log); err != nil {
		t.Fatal(err)
	}
	var unknown []cni.Pod
	for _, name := range []string{"over", "host", "early"} {
		unknown = append(unknown, cni.Pod{PodRef: cni.PodRef{Namespace: "blue", Name: name, UID: "u-" + name}})
	}
	for range 5 { // the first time is no time to ask: they may be about to start
		d.lonely(context.Background(), unknown)
	}
	if got := asked.Load(); got != 1+1+4 {
		t.Errorf("asked %d times, want once each for what cannot change and 4 times for what may", got)
	}
}
