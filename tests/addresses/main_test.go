package addresses

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

// patience bounds every wait and every call.
const patience = time.Minute

func TestMain(m *testing.M) { netnstest.Main(m) }

// cluster is the API server that all tests share.
type cluster struct {
	api     *lab.API
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

// start starts the API server for the first test that asks. It ends with the
// test binary, whose namespaces it lives in.
var start = sync.OnceValues(func() (*cluster, error) {
	if err := loopback(); err != nil {
		return nil, err
	}
	api, err := lab.Start(context.Background(), lab.Options{})
	if err != nil {
		return nil, err
	}
	config, err := api.RESTConfig(lab.Admin)
	if err != nil {
		return nil, errors.Join(err, api.Close())
	}
	c := &cluster{api: api}
	if c.client, err = kubernetes.NewForConfig(config); err == nil {
		c.dynamic, err = dynamic.NewForConfig(config)
	}
	return c, err
})

var definitions = schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"}

// define makes a NetworkAttachmentDefinition in a namespace, which it makes too.
func (c *cluster) define(t *testing.T, namespace, name, config string) {
	t.Helper()
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	_ = err // it may be there
	_, err = c.dynamic.Resource(definitions).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"config": config},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

var claims = schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1alpha1", Resource: "ipamclaims"}

// claim makes an IPAMClaim.
func (c *cluster) claim(t *testing.T, namespace, name string) {
	t.Helper()
	_, err := c.dynamic.Resource(claims).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1alpha1", "kind": "IPAMClaim", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"network": "red", "interface": "net1"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until done.
func eventually(t *testing.T, what string, done func() (seen string, ok bool)) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		seen, ok := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: last seen: %s", what, seen)
		}
	}
}

func logFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(fmt.Sprintf("%s/%s.log", t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
