package kube_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cni/refusal"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/kube"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/vf/vftest"
)

const patience = time.Minute

// server is one real API server for all tests; each has a node of its own.
var server = lab.Shared{Options: lab.Options{CRDs: []string{crd("vfpolicies"), crd("nodevfstates")}}}

func crd(plural string) string {
	return filepath.Join("..", "..", "deployment", "crds", "tendril.dev_"+plural+".yaml")
}

func TestMain(m *testing.M) { server.Main(m) }

// world is one node at the API server, seen as its administrator.
type world struct {
	*testing.T
	config  *rest.Config
	objects dynamic.Interface
	nodes   kubernetes.Interface
	node    string

	mu     sync.Mutex // guards handed
	handed [][]vf.Policy
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, config: server.Config(t)}
	var err error
	if w.objects, err = dynamic.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	if w.nodes, err = kubernetes.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	w.node = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	_, err = w.nodes.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: w.node, Labels: map[string]string{"node": w.node}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: "other", Effect: corev1.TaintEffectNoSchedule}, {Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// adapter runs an Adapter until the test ends.
func (w *world) adapter(o kube.Options) *kube.Adapter {
	w.Helper()
	o.Interval = 10 * time.Millisecond
	o.OnPolicies = func(p []vf.Policy) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.handed = append(w.handed, p)
	}
	a, err := kube.New(w.config, w.node, o, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			w.Error(err)
		}
	}()
	w.Cleanup(func() { cancel(); <-done })
	return a
}

// policy makes a policy for this node, which goes with the test.
func (w *world) policy(name, spec string) error {
	w.Helper()
	var s map[string]any
	if err := yaml.Unmarshal([]byte(spec), &s); err != nil {
		w.Fatal(err)
	}
	s["nodeSelector"] = map[string]any{"node": w.node}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": s}}
	u.SetGroupVersionKind(v1alpha1.KindPolicy)
	u.SetName(w.node + "-" + name)
	client := w.objects.Resource(v1alpha1.VFPolicies)
	_, err := client.Create(w.Context(), u, metav1.CreateOptions{})
	if err == nil {
		w.Cleanup(func() { _ = client.Delete(context.Background(), u.GetName(), metav1.DeleteOptions{}) })
	}
	return err
}

func (w *world) last() ([]vf.Policy, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.handed) == 0 {
		return nil, false
	}
	return w.handed[len(w.handed)-1], true
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p, _ := w.last()
			w.Fatalf("%s: not within %v; policies %+v, conditions %+v", what, patience, p, w.state().Status.Conditions)
		}
	}
}

func (w *world) state() v1alpha1.NodeVFState {
	w.Helper()
	var n v1alpha1.NodeVFState
	u, err := w.objects.Resource(v1alpha1.NodeVFStates).Get(w.Context(), w.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return n
	}
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n)
	}
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *world) ready() (status, reason, message string) {
	for _, c := range w.state().Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return string(c.Status), c.Reason, c.Message
		}
	}
	return "", "", ""
}

func (w *world) taints() (keys []string) {
	w.Helper()
	n, err := w.nodes.CoreV1().Nodes().Get(w.Context(), w.node, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range n.Spec.Taints {
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") { // the API server's own
			keys = append(keys, t.Key)
		}
	}
	return keys
}

// state of a machine with these policies, as a provisioner would report it.
func state(m *vftest.Machine, policies []vf.Policy, inUse func(vf.Addr) string) vf.State {
	o := vf.Observed{Snapshot: m.Snapshot(), Made: map[vf.Addr]bool{}}
	return vf.State{
		Snapshot: o.Snapshot, Policies: policies, Made: o.Made, Steps: vf.Plan(o, policies, inUse),
		Assignments: vf.Assign(o.Snapshot, policies, nil), Unfit: map[vf.Addr]string{},
	}
}

const fast = `{nicSelector: {pfNames: [sriov0]}, numVFs: 7, resourceName: fast}`

func TestPoliciesComeAsTheyChange(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	w.eventually("a first word, with none", func() bool { p, ok := w.last(); return ok && len(p) == 0 })
	if err := w.policy("fast", fast); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy", func() bool { p, _ := w.last(); return len(p) == 1 && p[0].NumVFs == 7 })
	label := func(value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"node":%q}}}`, value)
		if _, err := w.nodes.CoreV1().Nodes().Patch(t.Context(), w.node, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	fetched, refused, err := kube.Fetch(t.Context(), w.config, w.node)
	if err != nil || !cmp.Equal(fetched, a.Policies()) || len(refused) > 0 {
		t.Errorf("Fetch: %+v, %v, %v", fetched, refused, err)
	}
	label("another")
	w.eventually("no policy any more", func() bool { p, _ := w.last(); return len(p) == 0 })
	label(w.node)
	w.eventually("the policy again", func() bool { return len(a.Policies()) == 1 })
}

func TestStateIsWritten(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	if err := w.policy("fast", fast); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy", func() bool { return len(a.Policies()) == 1 })
	nic := vftest.Igb()
	nic.VFs, nic.TotalVFs = 0, 7
	m := vftest.NewMachine(nic)
	a.Report(state(m, a.Policies(), nil))
	w.eventually("applying", func() bool {
		s, r, msg := w.ready()
		return s == "False" && r == "Applying" && strings.Contains(msg, "create 7 VFs")
	})
	for _, s := range vf.Plan(vf.Observed{Snapshot: m.Snapshot()}, a.Policies(), nil) {
		if err := m.Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	s := state(m, a.Policies(), nil)
	s.Unfit[vf.MustAddr("0000:01:10.2")] = "in quarantine"
	a.Report(s)
	w.eventually("ready", func() bool { s, r, _ := w.ready(); return s == "True" && r == "Applied" })
	got := w.state()
	want := []v1alpha1.PolicyState{{Name: w.node + "-fast", Generation: 1, Ready: true, Reason: "Applied", Message: "7 VFs, 1 of them cannot be given out now"}}
	if d := cmp.Diff(want, got.Status.Policies); d != "" {
		t.Error(d)
	}
	if v := got.Status.PFs[0].VFs[1]; v.Unfit != "in quarantine" || v.Resource != "tendril.dev/fast" || v.Driver != "igbvf" {
		t.Errorf("VF 1: %+v", v)
	}
	if o := got.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].Name != w.node || o[0].UID == "" {
		t.Errorf("owner %+v", o)
	}
	since := got.Status.Conditions[0].LastTransitionTime
	if err := w.objects.Resource(v1alpha1.NodeVFStates).Delete(t.Context(), w.node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Change(func(s *vf.Snapshot) { s.PFs[0].LinkUp = false })
	a.Report(state(m, a.Policies(), nil))
	w.eventually("made again", func() bool { n := w.state(); return len(n.Status.PFs) == 1 && !n.Status.PFs[0].LinkUp })
	if since.IsZero() {
		t.Error("the condition has no time")
	}
}

func TestInvariant9RefusedPolicyIsNamedInTheState(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	// Valid for the schema, and not for Validate.
	if err := w.policy("bad", `{nicSelector: {pfNames: [sriov0]}, numVFs: 4, vfs: [{range: "2-9"}]}`); err != nil {
		t.Fatal(err)
	}
	a.Report(state(vftest.NewMachine(vftest.Igb()), nil, nil))
	w.eventually("the refusal", func() bool {
		s, r, m := w.ready()
		return s == "False" && r == "Refused" && strings.Contains(m, "spec.vfs[0].range")
	})
	if len(a.Policies()) > 0 {
		t.Error("a refused policy was handed on")
	}
}

func TestInvariant6WaitingIsSaidWithPodAndVF(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	if err := w.policy("dpdk", `{nicSelector: {pfNames: [sriov0]}, driver: vfio-pci}`); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy", func() bool { return len(a.Policies()) == 1 })
	a.Report(state(vftest.NewMachine(vftest.Igb()), a.Policies(), func(vf.Addr) string { return "pod default/tenant" }))
	w.eventually("waiting", func() bool {
		_, r, m := w.ready()
		return r == "InUse" && strings.Contains(m, "pod default/tenant") && strings.Contains(m, "0000:01:10.0") && strings.Contains(m, "and 4 more")
	})
}

func TestTaintGoesWhenSettled(t *testing.T) {
	w := newWorld(t)
	a := w.adapter(kube.Options{})
	if err := w.policy("fast", fast); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy", func() bool { return len(a.Policies()) == 1 })
	nic := vftest.Igb()
	nic.VFs, nic.TotalVFs = 0, 7
	a.Report(state(vftest.NewMachine(nic), a.Policies(), nil))
	w.eventually("applying", func() bool { _, r, _ := w.ready(); return r == "Applying" })
	if d := cmp.Diff([]string{"other", v1alpha1.NotReadyTaint}, w.taints()); d != "" {
		t.Error(d)
	}
	a.Report(state(vftest.NewMachine(vftest.Igb()), a.Policies(), nil))
	w.eventually("only the other taint", func() bool { return cmp.Equal([]string{"other"}, w.taints()) })
}

func TestGuardPutsTheTaintAtBoot(t *testing.T) {
	w := newWorld(t)
	patch := `[{"op":"remove","path":"/spec/taints"}]`
	if _, err := w.nodes.CoreV1().Nodes().Patch(t.Context(), w.node, "application/json-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	a := w.adapter(kube.Options{Guard: true})
	if err := w.policy("fast", fast); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy", func() bool { return len(a.Policies()) == 1 })
	nic := vftest.Igb()
	nic.VFs, nic.TotalVFs = 0, 7
	todo, done := state(vftest.NewMachine(nic), a.Policies(), nil), state(vftest.NewMachine(vftest.Igb()), a.Policies(), nil)
	a.Report(todo)
	w.eventually("the taint", func() bool { return cmp.Equal([]string{v1alpha1.NotReadyTaint}, w.taints()) })
	a.Report(done)
	w.eventually("no taint", func() bool { return len(w.taints()) == 0 })
	a.Report(todo) // a later change must not take the node out of service
	w.eventually("applying", func() bool { _, r, _ := w.ready(); return r == "Applying" })
	if got := w.taints(); len(got) > 0 {
		t.Errorf("taints %v", got)
	}
}

// The schema must refuse what Validate refuses, as far as a schema can.
func TestSchemaRefuses(t *testing.T) {
	w := newWorld(t)
	for name, spec := range map[string]string{
		"empty-selector": `{nicSelector: {}}`,
		"no-selector":    `{numVFs: 7}`,
		"vendor":         `{nicSelector: {vendors: ["0x8086"]}}`,
		"range":          `{nicSelector: {pfNames: ["eth0#1-"]}}`,
		"address":        `{nicSelector: {rootDevices: ["eth0"]}}`,
		"priority":       `{nicSelector: {pfNames: [e]}, priority: 100}`,
		"create":         `{nicSelector: {pfNames: [e]}, numVFs: 7, createVFs: 4}`,
		"mtu":            `{nicSelector: {pfNames: [e]}, mtu: 20}`,
		"driver":         `{nicSelector: {pfNames: [e]}, driver: igb_uio}`,
		"resource":       `{nicSelector: {pfNames: [e]}, resourceName: "a/b/c"}`,
		"vfs":            `{nicSelector: {pfNames: [e]}, vfs: [{driver: kernel}]}`,
	} {
		if err := w.policy(name, spec); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spec := range map[string]string{
		"full": `{nicSelector: {vendors: ["8086"], devices: ["10c9"], pfNames: ["sriov0#0-3,6"], rootDevices: ["0000:01:00.0#0-6"]}, numVFs: 7, createVFs: 7,
			priority: 0, mtu: 1500, autoprobe: true, driver: vfio-pci, resourceName: example.com/x_y, vfs: [{range: "0,2-3", driver: kernel}],
			allowPrimary: true, pfLink: true, excludeTopology: true, needVhostNet: true}`,
	} {
		if err := w.policy(name, spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faulty answers the first writes as a server in trouble does.
type faulty struct {
	http.RoundTripper
	left atomic.Int32
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPatch || f.left.Add(-1) < 0 {
		return f.RoundTripper.RoundTrip(r)
	}
	answer := httptest.NewRecorder()
	if f.left.Load()%2 == 0 {
		answer.WriteHeader(http.StatusInternalServerError)
		return answer.Result(), nil
	}
	// The write is done, and the answer lost.
	if resp, err := f.RoundTripper.RoundTrip(r); err == nil {
		_ = resp.Body.Close()
	}
	return nil, errors.New("connection reset")
}

func TestStateIsWrittenInSpiteOfFaults(t *testing.T) {
	w := newWorld(t)
	f := &faulty{}
	f.left.Store(6)
	w.config = rest.CopyConfig(w.config)
	w.config.Wrap(func(rt http.RoundTripper) http.RoundTripper { f.RoundTripper = rt; return f })
	a := w.adapter(kube.Options{})
	a.Report(state(vftest.NewMachine(vftest.Igb()), nil, nil))
	w.eventually("ready", func() bool { s, _, _ := w.ready(); return s == "True" })
	w.eventually("only the other taint", func() bool { return cmp.Equal([]string{"other"}, w.taints()) })
}

func TestNewWantsAllParts(t *testing.T) {
	_, err := kube.New(&rest.Config{}, "", kube.Options{}, slog.New(slog.DiscardHandler))
	if _, ok := err.(*refusal.Refusal); !ok {
		t.Error(err)
	}
}
