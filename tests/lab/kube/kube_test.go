package kube_test

import (
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/tendril-cni/tendril/tests/lab/kube"
)

var attachmentDefinitions = schema.GroupVersionResource{
	Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions",
}

func networks(t *testing.T, api *kube.API, user string) dynamic.ResourceInterface {
	t.Helper()
	config, err := api.RESTConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(attachmentDefinitions).Namespace("default")
}

func network(name string, config any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1",
		"kind":       "NetworkAttachmentDefinition",
		"metadata":   map[string]any{"name": name},
		"spec":       map[string]any{"config": config},
	}}
}

// One API server does for all of it: starting one is most of the time.
func TestAPI(t *testing.T) {
	ctx := t.Context()
	api, err := kube.Start(ctx, kube.Options{Nodes: []string{"node1"}, Audit: "system:nodes"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(api.Dir()); err == nil {
			t.Errorf("%s is left behind", api.Dir())
		}
	})
	admin := networks(t, api, kube.Admin)

	t.Run("definition accepted", func(t *testing.T) {
		if _, err := admin.Create(ctx, network("good", `{"type":"macvlan"}`), metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("definition of a wrong type refused", func(t *testing.T) {
		_, err := admin.Create(ctx, network("bad", int64(7)), metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.config") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a kubelet's identity is no administrator's", func(t *testing.T) {
		_, err := networks(t, api, "node1").Create(ctx, network("node", "{}"), metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("got %v", err)
		}
		got, err := api.Audited()
		if err != nil || len(got) != 1 || !got[0].Denied() ||
			!strings.HasPrefix(got[0].String(), "system:node:node1: create network-attachment-definitions.k8s.cni.cncf.io default -> 403") {
			t.Errorf("written down: %v, %v; want that request, and none of the administrator's", got, err)
		}
	})
	t.Run("kubectl", func(t *testing.T) {
		const object = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}`
		if err := api.Apply(ctx, object); err != nil {
			t.Fatal(err)
		}
		out, err := api.Kubectl(ctx, "get", "configmap", "applied", "--output=name")
		if err != nil || out != "configmap/applied\n" {
			t.Errorf("got %q, %v", out, err)
		}
		_, err = api.Kubectl(ctx, "get", "configmap", "absent")
		if err == nil || !strings.Contains(err.Error(), "kubectl get configmap absent: exit status 1: Error from server (NotFound)") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stop and start keep address and data", func(t *testing.T) {
		api.Stop()
		if _, err := admin.Get(ctx, "good", metav1.GetOptions{}); err == nil {
			t.Error("a stopped server answered")
		}
		if err := api.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.Get(ctx, "good", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestBadCRD(t *testing.T) {
	_, err := kube.Start(t.Context(), kube.Options{CRDs: []string{"does/not/exist.yaml"}})
	if err == nil || !strings.Contains(err.Error(), "install does/not/exist.yaml") {
		t.Errorf("got %v", err)
	}
}
