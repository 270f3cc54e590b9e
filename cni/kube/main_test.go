package kube_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

const (
	node     = "node1"
	patience = time.Minute
)

// server is one real API server for all tests of the package: each has its own
// namespace in it.
var server lab.Shared

func TestMain(m *testing.M) { server.Main(m) }

// world is a namespace of the API server, seen as its administrator.
type world struct {
	t         *testing.T
	api       *lab.API
	config    *rest.Config
	client    *kubernetes.Clientset
	networks  *nadclient.Clientset
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, api: server.API(t), config: server.Config(t)}
	var err error
	if w.client, err = kubernetes.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	if w.networks, err = nadclient.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	ns, err := w.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.namespace = ns.Name
	return w
}

// cache runs a Cache until the test ends.
func (w *world) cache(o kube.Options) *kube.Cache {
	w.t.Helper()
	c, err := kube.NewCache(w.config, node, o, discard)
	if err != nil {
		w.t.Fatal(err)
	}
	w.background(c.Run)
	if err := c.WaitSynced(w.within(patience)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// reporter runs a Reporter whose requests go through trip, if that is not nil,
// until the test ends or stop is called, which returns after it has ended.
func (w *world) reporter(c *kube.Cache, trip func(http.RoundTripper) http.RoundTripper) (r *kube.Reporter, stop func()) {
	w.t.Helper()
	return w.reporterOf(c, kube.Options{QPS: -1}, trip)
}

// reporterOf is reporter with these options.
func (w *world) reporterOf(c *kube.Cache, o kube.Options, trip func(http.RoundTripper) http.RoundTripper) (r *kube.Reporter, stop func()) {
	w.t.Helper()
	config := rest.CopyConfig(w.config)
	if trip != nil {
		config.Wrap(trip)
	}
	r, err := kube.NewReporter(config, node, c, o, discard)
	if err != nil {
		w.t.Fatal(err)
	}
	return r, w.background(r.Run)
}

func (w *world) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) create(name, onNode string, annotations map[string]string) *corev1.Pod {
	w.t.Helper()
	return w.createPod(onNode, metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"app": name}})
}

func (w *world) createOwned(name, onNode string, owner metav1.OwnerReference) *corev1.Pod {
	w.t.Helper()
	return w.createPod(onNode, metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}})
}

func (w *world) createPod(onNode string, meta metav1.ObjectMeta) *corev1.Pod {
	w.t.Helper()
	pod, err := w.client.CoreV1().Pods(w.namespace).Create(w.t.Context(), &corev1.Pod{
		ObjectMeta: meta,
		Spec:       corev1.PodSpec{NodeName: onNode, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return pod
}

func (w *world) remove(name string) {
	w.t.Helper()
	now := int64(0)
	if err := w.client.CoreV1().Pods(w.namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) define(name, config, resource string) {
	w.t.Helper()
	d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: nad.NetworkAttachmentDefinitionSpec{Config: config}}
	if resource != "" {
		d.Annotations = map[string]string{"k8s.v1.cni.cncf.io/resourceName": resource, "other": "x"}
	}
	if _, err := w.networks.K8sCniCncfIoV1().NetworkAttachmentDefinitions(w.namespace).Create(w.t.Context(), d, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// status is the network-status annotation of a pod, as the API server has it.
func (w *world) status(name string) string {
	w.t.Helper()
	pod, err := w.client.CoreV1().Pods(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return pod.Annotations["k8s.v1.cni.cncf.io/network-status"]
}

func ref(p *corev1.Pod) cni.PodRef {
	return cni.PodRef{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))
