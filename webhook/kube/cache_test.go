package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/webhook"
	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/report"
	"github.com/tendril-cni/tendril/webhook/validate"
)

const patience = time.Minute

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// server is one real API server for all tests of the package.
var server lab.Shared

func TestMain(m *testing.M) { server.Main(m) }

// world is a namespace, and a cache whose requests are counted.
type world struct {
	t         *testing.T
	config    *rest.Config
	client    *kubernetes.Clientset
	networks  *nadclient.Clientset
	namespace string
	reads     atomic.Int64 // of the cache's client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, config: server.Config(t)}
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

// counting counts what goes to the API server.
type counting struct {
	reads *atomic.Int64
	next  http.RoundTripper
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.reads.Add(1)
	return c.next.RoundTrip(r)
}

// cache runs a Cache until the test ends.
func (w *world) cache() *kube.Cache {
	w.t.Helper()
	config := rest.CopyConfig(w.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{&w.reads, next} })
	c, err := kube.NewCache(config, kube.Options{Namespace: w.namespace, SwitchesName: "switches"}, discard)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.eventually("cache filled", c.Synced)
	return c
}

func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

func (w *world) define(name, config string) {
	w.t.Helper()
	d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{validate.ResourceAnnotation: "v.io/a"}}, Spec: nad.NetworkAttachmentDefinitionSpec{Config: config}}
	if _, err := w.networks.K8sCniCncfIoV1().NetworkAttachmentDefinitions(w.namespace).Create(w.t.Context(), d, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) review(networks string) *admissionv1.AdmissionRequest {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{validate.NetworksAnnotation: networks}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	raw, err := json.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	req := &admissionv1.AdmissionRequest{UID: "u", Namespace: w.namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw}}
	req.Kind.Kind = "Pod"
	return req
}

func reviewer(c *kube.Cache) *webhook.Reviewer {
	return &webhook.Reviewer{Cluster: c, Options: c.Injector, Log: discard}
}

// TestInvariant8ReviewsReadNothing: 500 reviews at once cost the API server
// nothing, whatever annotations the definitions carry.
func TestInvariant8ReviewsReadNothing(t *testing.T) {
	w := newWorld(t)
	w.define("a", `{"type":"macvlan"}`)
	w.define("b", `{"type":"sriov"}`)
	c := w.cache()
	w.eventually("both known", func() error { return knows(c, w.namespace, "a", "b") })
	before := w.reads.Load()
	var group sync.WaitGroup
	for range 500 {
		group.Go(func() {
			for _, review := range []func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse{reviewer(c).Mutate, reviewer(c).Validate} {
				if resp := review(t.Context(), w.review("a,b,a")); !resp.Allowed {
					t.Errorf("%+v", resp.Result)
				}
			}
		})
	}
	group.Wait()
	if n := w.reads.Load() - before; n != 0 {
		t.Errorf("%d requests to the API server, want 0", n)
	}
}

func knows(c *kube.Cache, namespace string, names ...string) error {
	for _, name := range names {
		if c.Facts().Networks.Network(namespace, name) == nil {
			return fmt.Errorf("%s is not known", name)
		}
	}
	return nil
}

// TestNamesThatDoNotExistDoNotFlood: reviews of 3 such names, 200 at once and 200
// one after the other, read each name once in a second; a definition that is made
// then is found.
func TestNamesThatDoNotExistDoNotFlood(t *testing.T) {
	w := newWorld(t)
	c := w.cache()
	before, begun := w.reads.Load(), time.Now()
	review := func() {
		if resp := reviewer(c).Mutate(t.Context(), w.review("x,y,z")); resp.Allowed || !strings.HasPrefix(resp.Result.Message, "P002") {
			t.Errorf("%+v", resp)
		}
	}
	var group sync.WaitGroup
	for range 200 {
		group.Go(review)
	}
	group.Wait()
	for range 200 {
		review()
	}
	// Informers that have to resume a watch meanwhile are counted too.
	const resumed = 3
	most := 3*int64(time.Since(begun)/time.Second+1) + resumed
	if n := w.reads.Load() - before; n < 3 || n > most {
		t.Errorf("%d requests to the API server for 3 names, want 3..%d", n, most)
	}
	w.define("x", `{"type":"macvlan"}`)
	w.eventually("a definition that was absent", func() error {
		if resp := reviewer(c).Mutate(t.Context(), w.review("x")); !resp.Allowed {
			return errors.New(resp.Result.Message)
		}
		return nil
	})
}

// TestFactsOfTheCluster: nodes and classes are seen, and change.
func TestFactsOfTheCluster(t *testing.T) {
	w := newWorld(t)
	c := w.cache()
	if f := c.Facts(); f.Plugins != nil || !f.Complete {
		t.Errorf("before: %+v", f)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "n-", Labels: map[string]string{"zone": "x"}, Annotations: map[string]string{
		report.PluginsAnnotation: "macvlan,bridge", report.LinksAnnotation: "eth0", report.UserspaceAnnotation: "v.io/dpdk",
		report.GivenAnnotation: `{"always":1,"default":1,"system":["kube-system"]}`}},
		Spec: corev1.NodeSpec{PodCIDR: "10.244.9.0/24", PodCIDRs: []string{"10.244.9.0/24"}}}
	node, err := w.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.client.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{})
	})
	node.Status.Allocatable = corev1.ResourceList{"v.io/a": resource.MustParse("4"), "cpu": resource.MustParse("4")}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.9.9"}, {Type: corev1.NodeHostName, Address: "n"}}
	if _, err := w.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	extended := "v.io/class"
	w.class(t, "facts", &extended, "")
	w.eventually("facts", func() error {
		f := c.Facts()
		if !f.Resources["v.io/a"] || f.Resources["cpu"] || !f.Resources[extended] || !f.Userspace["v.io/dpdk"] || len(f.PodNets) != 1 || len(f.NodeAddrs) != 1 || strings.Join(f.Plugins, " ") != "bridge macvlan" {
			return fmt.Errorf("%+v", f)
		}
		links, known := f.Links("zone=x")
		if _, none := f.Links("zone=y"); !known || !links["eth0"] || none {
			return fmt.Errorf("links %v", links)
		}
		if system, others := f.Given("kube-system"), f.Given("blue"); !slices.Equal(system, []int{1}) || !slices.Equal(others, []int{2}) {
			return fmt.Errorf("given %v, %v", system, others)
		}
		return nil
	})
}

func (w *world) class(t *testing.T, name string, extended *string, cel string) {
	t.Helper()
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	class.Spec.ExtendedResourceName = extended
	if cel != "" {
		class.Spec.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: cel}}}
	}
	if _, err := w.client.ResourceV1().DeviceClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.client.ResourceV1().DeviceClasses().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
}

// TestClaimed: a claim, or the template of one, brings the resource that its
// class or its selectors name; injection then leaves that resource alone.
func TestClaimed(t *testing.T) {
	w := newWorld(t)
	c := w.cache()
	w.class(t, "named", nil, `device.attributes["k8s.cni.cncf.io"].resourceName == "v.io/named"`)
	w.class(t, "any", nil, "")
	request := func(class, cel string) resourcev1.ResourceClaimSpec {
		exactly := &resourcev1.ExactDeviceRequest{DeviceClassName: class}
		if cel != "" {
			exactly.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: cel}}}
		}
		return resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: exactly}}}}
	}
	claims := w.client.ResourceV1().ResourceClaims(w.namespace)
	templates := w.client.ResourceV1().ResourceClaimTemplates(w.namespace)
	for name, spec := range map[string]resourcev1.ResourceClaimSpec{
		"class": request("named", ""), "selector": request("any", `device.attributes["k8s.cni.cncf.io"].resourceName == "v.io/selected"`), "other": request("any", ""),
	} {
		if _, err := claims.Create(t.Context(), &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := templates.Create(t.Context(), &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceClaimTemplateSpec{Spec: spec}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"v.io/named", "v.io/selected", "any"}
	for name, want := range map[string]string{"class": "v.io/named", "selector": "v.io/selected any", "other": "any", "gone": ""} {
		for _, claim := range []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: &name}, {Name: "x", ResourceClaimTemplateName: &name}} {
			pod := &corev1.Pod{Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{claim}}}
			w.eventually(name, func() error {
				var got []string
				for _, r := range all {
					if c.Claimed(w.namespace, pod, all)[r] {
						got = append(got, r)
					}
				}
				if strings.Join(got, " ") != want {
					return fmt.Errorf("claimed %v, want %s", got, want)
				}
				return nil
			})
		}
	}
}

// TestLook is what a person's program sees: all of it as administrator, the
// definitions alone with fewer rights.
func TestLook(t *testing.T) {
	w := newWorld(t)
	w.define("a", `{"type":"macvlan"}`)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{validate.NetworksAnnotation: "a,a"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
	if _, err := w.client.CoreV1().Pods(w.namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := kube.Look(t.Context(), w.config, validate.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Networks.Network(w.namespace, "a") == nil || len(f.Networks.Summaries()) == 0 || !f.Complete || f.Resources == nil || f.Attached(w.namespace, "a") != 1 {
		t.Errorf("%+v", f)
	}
	few := rest.CopyConfig(w.config)
	few.Impersonate = rest.ImpersonationConfig{UserName: "few", Groups: []string{"few"}}
	if _, err := kube.Look(t.Context(), few, validate.Facts{}); err == nil {
		t.Error("no rights, no error")
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"k8s.cni.cncf.io"}, Resources: []string{"*"}, Verbs: []string{"list"}},
		{NonResourceURLs: []string{"*"}, Verbs: []string{"get"}},
	}}
	if _, err := w.client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "few"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "few"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "few"}}}
	if _, err := w.client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("few rights", func() error {
		f, err := kube.Look(t.Context(), few, validate.Facts{})
		if err != nil {
			return err
		}
		if f.Resources != nil || f.Attached != nil || f.Networks.Network(w.namespace, "a") == nil {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
}
