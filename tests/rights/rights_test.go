package rights_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

const (
	namespace = "tendril-system"
	patience  = time.Minute
	status    = "k8s.v1.cni.cncf.io/network-status"
)

// world is an API server with the manifest applied, two nodes, a daemon's pod on
// each, and a tenant's pod on each and on none.
type world struct {
	*testing.T
	api   *lab.API
	admin *kubernetes.Clientset
}

func newWorld(t *testing.T) *world {
	t.Helper()
	api, err := lab.Start(t.Context(), lab.Options{CRDs: []string{}, Audit: "system:serviceaccounts:" + namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, api: api}
	config, err := api.RESTConfig(lab.Admin)
	w.must(err)
	w.admin, err = kubernetes.NewForConfig(config)
	w.must(err)
	manifest, err := os.ReadFile(filepath.Join("..", "..", "deployment", "manifests", "tendril.yaml"))
	w.must(err)
	w.must(api.Apply(t.Context(), string(manifest)))
	for _, node := range []string{"node1", "node2"} {
		_, err := w.admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Annotations: map[string]string{"theirs": "x"}}}, metav1.CreateOptions{})
		w.must(err)
		w.pod(namespace, "tendrild-"+node, node)
		w.pod("default", "tenant-"+node, node)
	}
	w.pod("default", "tenant-nowhere", "")
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) pod(namespace, name, node string) {
	w.Helper()
	account := "default"
	if namespace != "default" {
		account = "tendrild"
	}
	_, err := w.admin.CoreV1().Pods(namespace).Create(w.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"theirs": "x"}},
		Spec:       corev1.PodSpec{NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	w.must(err)
}

// token is one of the daemon's service account: for its pod on a node, or for no
// pod.
func (w *world) token(node string) dynamic.Interface {
	w.Helper()
	request := &authenticationv1.TokenRequest{}
	if node != "" {
		pod, err := w.admin.CoreV1().Pods(namespace).Get(w.Context(), "tendrild-"+node, metav1.GetOptions{})
		w.must(err)
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	made, err := w.admin.CoreV1().ServiceAccounts(namespace).CreateToken(w.Context(), "tendrild", request, metav1.CreateOptions{})
	w.must(err)
	config, err := w.api.RESTConfig(lab.Admin)
	w.must(err)
	anonymous := rest.AnonymousClientConfig(config)
	anonymous.BearerToken, anonymous.Proxy, anonymous.QPS = made.Status.Token, config.Proxy, -1
	client, err := dynamic.NewForConfig(anonymous)
	w.must(err)
	return client
}

var (
	nodes      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	pods       = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	events     = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	accounts   = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	states     = schema.GroupVersionResource{Group: "tendril.dev", Version: "v1alpha1", Resource: "nodevfstates"}
	policies   = schema.GroupVersionResource{Group: "tendril.dev", Version: "v1alpha1", Resource: "vfpolicies"}
	blocks     = schema.GroupVersionResource{Group: "tendril.dev", Version: "v1alpha1", Resource: "addressblocks"}
	networks   = schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"}
	claims     = schema.GroupVersionResource{Group: "k8s.cni.cncf.io", Version: "v1alpha1", Resource: "ipamclaims"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	roles      = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	bindings   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"}
	webhooks   = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	bounds     = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}
	daemonSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
)

// call is something that a daemon might ask of the API server.
type call func(ctx context.Context, c dynamic.Interface) error

func patch(r schema.GroupVersionResource, ns, name, body string, sub ...string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		_, err := c.Resource(r).Namespace(ns).Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, sub...)
		return err
	}
}

// ops is a JSON patch: the daemon changes the node's list of taints so, beside
// those that the API server has put there.
func ops(r schema.GroupVersionResource, name, body string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		_, err := c.Resource(r).Patch(ctx, name, types.JSONPatchType, []byte(body), metav1.PatchOptions{})
		return err
	}
}

func create(r schema.GroupVersionResource, ns, kind, name string, sub ...string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetGroupVersionKind(r.GroupVersion().WithKind(kind))
		o.SetName(name)
		if kind == "Event" {
			o.Object["involvedObject"] = map[string]any{"kind": "Pod", "namespace": ns, "name": "tenant-node1"}
		}
		_, err := c.Resource(r).Namespace(ns).Create(ctx, o, metav1.CreateOptions{}, sub...)
		return err
	}
}

// slots writes the block "b" with slots of these owners in order: nodes, or claims
// with a slash in them.
func slots(owners ...string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		var list []any
		for i, owner := range owners {
			key := "node"
			if strings.Contains(owner, "/") {
				key = "claim"
			}
			if owner != "" {
				list = append(list, map[string]any{"slot": int64(i), key: owner, "seq": int64(1)})
			}
		}
		o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"cell": "10.0.0.0/26", "seq": int64(1), "slots": list}}}
		o.SetGroupVersionKind(blocks.GroupVersion().WithKind("AddressBlock"))
		o.SetName("b")
		old, err := c.Resource(blocks).Get(ctx, "b", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = c.Resource(blocks).Create(ctx, o, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		o.SetResourceVersion(old.GetResourceVersion())
		_, err = c.Resource(blocks).Update(ctx, o, metav1.UpdateOptions{})
		return err
	}
}

func get(r schema.GroupVersionResource, ns, name string, sub ...string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		_, err := c.Resource(r).Namespace(ns).Get(ctx, name, metav1.GetOptions{}, sub...)
		return err
	}
}

func list(r schema.GroupVersionResource, ns string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		_, err := c.Resource(r).Namespace(ns).List(ctx, metav1.ListOptions{})
		return err
	}
}

func remove(r schema.GroupVersionResource, ns, name string) call {
	return func(ctx context.Context, c dynamic.Interface) error {
		return c.Resource(r).Namespace(ns).Delete(ctx, name, metav1.DeleteOptions{})
	}
}

const (
	ourTaint   = `[{"op":"add","path":"/spec/taints/-","value":{"key":"tendril.dev/vf-not-ready","effect":"NoSchedule"}}]`
	otherTaint = `[{"op":"add","path":"/spec/taints/-","value":{"key":"theirs","effect":"NoSchedule"}}]`
	aStatus    = `{"metadata":{"annotations":{"` + status + `":"[]"}}}`
)

// The order matters: what is created first is changed later.
var allowed = []struct {
	what string
	call call
}{
	{"list pods", list(pods, "")},
	{"list networks", list(networks, "")},
	{"list VF policies", list(policies, "")},
	{"get its node", get(nodes, "", "node1")},
	{"taint its node", ops(nodes, "node1", ourTaint)},
	{"untaint its node", ops(nodes, "node1", `[{"op":"remove","path":"/spec/taints/1"}]`)},
	{"annotate its node", patch(nodes, "", "node1", `{"metadata":{"annotations":{"tendril.dev/links":"eth0"}}}`)},
	{"create its state", create(states, "", "NodeVFState", "node1")},
	{"patch its state", patch(states, "", "node1", `{"metadata":{"labels":{"a":"b"}}}`)},
	{"patch its state's status", patch(states, "", "node1", `{"status":{"policies":[]}}`, "status")},
	{"write a pod's status", patch(pods, "default", "tenant-node1", aStatus, "status")},
	{"write it again", patch(pods, "default", "tenant-node1", strings.ReplaceAll(aStatus, "[]", "[{}]"), "status")},
	{"write an event", create(events, "default", "Event", "e")},
}

// forbidden is what a daemon that was taken over might try, and what the answer
// has to name; the empty string is RBAC's.
var forbidden = []struct {
	what string
	call call
	want string
}{
	{"taint another node", ops(nodes, "node2", ourTaint), "B002: Node node2"},
	{"annotate another node", patch(nodes, "", "node2", `{"metadata":{"annotations":{"tendril.dev/links":"eth0"}}}`), "allowed: objects of node node1"},
	{"create another node's state", create(states, "", "NodeVFState", "node2"), "B002: NodeVFState node2"},
	{"write another node's pod", patch(pods, "default", "tenant-node2", aStatus, "status"), "B002: Pod tenant-node2: of node node2"},
	{"write a pod of no node", patch(pods, "default", "tenant-nowhere", aStatus, "status"), "B002"},
	{"say that a pod runs", patch(pods, "default", "tenant-node1", `{"status":{"phase":"Running"}}`, "status"), "B003"},
	{"label a pod into a Service", patch(pods, "default", "tenant-node1", `{"metadata":{"labels":{"app":"bank"}}}`, "status"), "B003"},
	{"take a pod's label away", patch(pods, "default", "tenant-node1", `{"metadata":{"labels":null}}`, "status"), "B003"},
	{"write another annotation of a pod", patch(pods, "default", "tenant-node1", `{"metadata":{"annotations":{"theirs":"y"}}}`, "status"), "B003"},
	{"take an annotation away", patch(pods, "default", "tenant-node1", `{"metadata":{"annotations":{"theirs":null}}}`, "status"), "B003"},
	{"change a pod's networks", patch(pods, "default", "tenant-node1", `{"metadata":{"annotations":{"k8s.v1.cni.cncf.io/networks":"x"}}}`, "status"), "B003"},
	{"another taint of its node", ops(nodes, "node1", otherTaint), "B004: Node node1"},
	{"take the API server's taint away", ops(nodes, "node1", `[{"op":"remove","path":"/spec/taints/0"}]`), "B004"},
	{"label its node", patch(nodes, "", "node1", `{"metadata":{"labels":{"role":"control-plane"}}}`), "B004"},
	{"cordon its node", patch(nodes, "", "node1", `{"spec":{"unschedulable":true}}`), "B004"},
	{"another annotation of its node", patch(nodes, "", "node1", `{"metadata":{"annotations":{"theirs":"y"}}}`), "B004"},
	{"take its node's annotation away", patch(nodes, "", "node1", `{"metadata":{"annotations":{"theirs":null}}}`), "B004"},
	{"give its node capacity", patch(nodes, "", "node1", `{"status":{"capacity":{"gold":"7"}}}`, "status"), ""},
	{"read secrets", list(secrets, ""), ""},
	{"read the webhook's key", get(secrets, namespace, "tendril-webhook-cert"), ""},
	{"read ConfigMaps", list(configMaps, ""), ""},
	{"change a pod", patch(pods, "default", "tenant-node1", aStatus), ""},
	{"delete a pod", remove(pods, "default", "tenant-node1"), ""},
	{"create a pod", create(pods, namespace, "Pod", "p"), ""},
	{"delete its node", remove(nodes, "", "node1"), ""},
	{"delete its state", remove(states, "", "node1"), ""},
	{"make a policy", create(policies, "", "VFPolicy", "p"), ""},
	{"make a network", create(networks, "default", "NetworkAttachmentDefinition", "n"), ""},
	{"make a token", create(accounts, namespace, "TokenRequest", "tendrild", "token"), ""},
	{"change the daemon", patch(daemonSets, namespace, "tendrild", `{"spec":{}}`), ""},
	{"read a secret of another namespace", get(secrets, "default", "s"), ""},
	{"write a secret", patch(secrets, namespace, "tendril-webhook-cert", `{"data":null}`), ""},
	{"read a pod's log", get(pods, "default", "tenant-node2", "log"), ""},
	{"run a command in another pod", create(pods, "default", "PodExecOptions", "tenant-node2", "exec"), ""},
	{"evict a pod", create(pods, "default", "Eviction", "tenant-node2", "eviction"), ""},
	{"place a pod", create(pods, "default", "Binding", "tenant-nowhere", "binding"), ""},
	{"change a network", patch(networks, "default", "n", `{"spec":{"config":"{}"}}`), ""},
	{"delete a network", remove(networks, "default", "n"), ""},
	{"delete a block of addresses", remove(blocks, "", "b"), ""},
	{"delete a claim of an address", remove(claims, "default", "c"), ""},
	{"change a policy of VFs", patch(policies, "", "p", `{"spec":{}}`), ""},
	{"give itself rights", create(bindings, "", "ClusterRoleBinding", "b"), ""},
	{"widen its role", patch(roles, "", "tendrild", `{"rules":[]}`), ""},
	{"turn admission off", remove(webhooks, "", "tendril"), ""},
	{"lift what binds it to its node", remove(bounds, "", "node.tendril.dev"), ""},
	{"see namespaces", list(namespaces, ""), ""},
}

// TestInvariant10NodeChangesItsOwnAlone: a node that was broken into must not
// reach another one's pods, VFs or Node object with the daemon's token.
func TestInvariant10NodeChangesItsOwnAlone(t *testing.T) {
	w := newWorld(t)
	own, other, unbound := w.token("node1"), w.token("node2"), w.token("")
	w.awaitPolicy(own)
	for _, a := range allowed {
		if err := a.call(t.Context(), own); err != nil {
			t.Errorf("%s: %v", a.what, err)
		}
	}
	w.must(create(states, "", "NodeVFState", "node2")(t.Context(), other))
	for _, f := range append(forbidden, struct {
		what string
		call call
		want string
	}{"patch another node's state", patch(states, "", "node2", `{"status":{"policies":[]}}`, "status"), "B002: NodeVFState node2"}) {
		refused(t, f.what, f.call(t.Context(), own), f.want)
	}
	for _, step := range []struct {
		what string
		by   dynamic.Interface
		call call
		want string
	}{
		{"make a block with another node's slot", own, slots("node2"), "B005: AddressBlock b"},
		{"claim", own, slots("node1", "node1"), "allowed"},
		{"claim beside another node", other, slots("node1", "node1", "node2"), "allowed"},
		{"take another node's slot", other, slots("node2", "node1", "node2"), "B005"},
		{"free another node's slot", other, slots("node1", "", "node2"), "allowed: slots of node node2"},
		{"give another node a slot", other, slots("node1", "node1", "node2", "node1"), "B005"},
		{"give one back, and one to a claim", own, slots("node1", "", "node2", "ns/claim"), "allowed"},
		{"take what nobody has", other, slots("node1", "node2", "node2"), "allowed"},
	} {
		if err := step.call(t.Context(), step.by); step.want != "allowed" {
			refused(t, step.what, err, step.want)
		} else if err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	for what, c := range map[string]call{
		"taint":  ops(nodes, "node1", ourTaint),
		"status": patch(pods, "default", "tenant-node1", aStatus, "status"),
		"state":  patch(states, "", "node1", `{"status":{"policies":[]}}`, "status"),
	} {
		refused(t, what+" with a token of no pod", c(t.Context(), unbound), "B001")
	}
}

// TestInvariant10DenialsAreSeen: what the cluster suites look for at their end is
// there for RBAC's denials and for those of the admission policies.
func TestInvariant10DenialsAreSeen(t *testing.T) {
	w := newWorld(t)
	own := w.token("node1")
	w.awaitPolicy(own)
	before := w.denied()
	for _, c := range []call{get(nodes, "", "node1"), list(secrets, ""), ops(nodes, "node1", otherTaint)} {
		_ = c(t.Context(), own)
	}
	got := w.denied()[len(before):]
	if len(got) != 2 || !strings.Contains(got[0].String(), "tendrild: list secrets -> 403") || !strings.Contains(got[1].String(), "patch nodes node1 -> 422") {
		t.Errorf("denied: %v; want the list of secrets and the taint", got)
	}
}

func (w *world) denied() []lab.Request {
	w.Helper()
	all, err := w.api.Audited()
	w.must(err)
	return slices.DeleteFunc(all, func(r lab.Request) bool { return !r.Denied() })
}

// awaitPolicy waits until the API server has read the policy.
func (w *world) awaitPolicy(own dynamic.Interface) {
	w.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := patch(nodes, "", "node2", `{"metadata":{"annotations":{"tendril.dev/probe":"`+fmt.Sprint(time.Now().UnixNano())+`"}}}`)(w.Context(), own)
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("the policy is not in force after %v: %v", patience, err)
		}
	}
}

func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: allowed", what)
	case !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err):
		t.Errorf("%s: %v, want a refusal", what, err)
	case want == "" && !strings.Contains(err.Error(), "cannot"):
		t.Errorf("%s: %v, want RBAC's refusal", what, err)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%s: %v, want one with %q", what, err, want)
	}
}
