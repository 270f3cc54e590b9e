package kube_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/kube"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestPodIsFoundWithWhatTheEngineNeeds(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	pod := w.create("web", node, map[string]string{
		"k8s.v1.cni.cncf.io/networks":                      "macvlan",
		"v1.multus-cni.io/default-network":                 "kube-system/other",
		"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 1000),
	})
	want := cni.Pod{PodRef: ref(pod), Annotations: map[string]string{
		"k8s.v1.cni.cncf.io/networks":      "macvlan",
		"v1.multus-cni.io/default-network": "kube-system/other",
	}}
	for _, uid := range []string{string(pod.UID), ""} {
		got, err := c.Pod(w.within(patience), w.namespace, "web", uid)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("uid %q (-want +got):\n%s", uid, diff)
		}
	}
}

// TestOrdinalsAreThoseOfTheStatefulSetsThatAreKnown: the controller, which takes an
// ordinal's claim back, asks for those of the group apps alone.
func TestOrdinalsAreThoseOfTheStatefulSetsThatAreKnown(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	for version, want := range map[string]bool{"apps/v1": true, "apps.kruise.io/v1beta1": false} {
		name := "of-" + strings.NewReplacer("/", "-", ".", "-").Replace(version) + "-0"
		pod := w.createOwned(name, node, metav1.OwnerReference{APIVersion: version, Kind: "StatefulSet", Name: strings.TrimSuffix(name, "-0"), UID: "u", Controller: new(true)})
		got, err := c.Pod(w.within(patience), w.namespace, name, string(pod.UID))
		if err != nil {
			t.Fatal(err)
		}
		if got.Ordinal != want {
			t.Errorf("owner of %s: ordinal %v, want %v", version, got.Ordinal, want)
		}
	}
}

// TestAgeEndsWhenTheAPIServerSpeaks: an event of one kind says nothing about the
// other.
func TestAgeEndsWhenTheAPIServerSpeaks(t *testing.T) {
	w := newWorld(t)
	unstarted, err := kube.NewCache(w.config, node, kube.Options{}, discard)
	if err != nil || len(unstarted.Ages()) != 0 {
		t.Fatalf("ages before the first list: %v, %v", unstarted.Ages(), err)
	}
	c := w.cache(kube.Options{})
	w.eventually("an age", func() bool {
		return c.Ages()["pods"] > 100*time.Millisecond && c.Ages()["definitions"] > 100*time.Millisecond
	})
	before := c.Ages()["pods"]
	w.create("web", node, nil)
	w.eventually("a new pod", func() bool { return c.Ages()["pods"] < before })
}

func TestPodIsAwaited(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	found := make(chan error, 1)
	go func() {
		_, err := c.Pod(w.within(patience), w.namespace, "late", "")
		found <- err
	}()
	w.create("late", node, nil)
	if err := <-found; err != nil {
		t.Error(err)
	}
}

// The kubelet is told after a bounded time, long before it loses its patience.
func TestPodIsNotAwaitedForEver(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{PodWait: 50 * time.Millisecond})
	_, err := c.Pod(w.within(patience), w.namespace, "never", "1")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for pod "+w.namespace+"/never") {
		t.Errorf("error %v", err)
	}
}

func TestPodsOfOtherNodesAreNotKnown(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	elsewhere := w.create("elsewhere", "node2", nil)
	w.create("here", node, nil)
	if _, err := c.Pod(w.within(patience), w.namespace, "here", ""); err != nil {
		t.Fatal(err)
	}
	_, err := c.Pod(w.within(50*time.Millisecond), w.namespace, "elsewhere", string(elsewhere.UID))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "none seen on this node") {
		t.Errorf("error %v", err)
	}
	for _, p := range c.Pods() {
		if p.Name == "elsewhere" {
			t.Error("the pod of another node is in the cache")
		}
	}
}

func TestSuccessorIsNotTakenForItsPredecessor(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	first := w.create("db-0", node, nil)
	if _, err := c.Pod(w.within(patience), w.namespace, "db-0", string(first.UID)); err != nil {
		t.Fatal(err)
	}
	// The kubelet already starts the second one, the watch is behind.
	found := make(chan cni.Pod, 1)
	w.remove("db-0")
	second := w.create("db-0", node, map[string]string{"k8s.v1.cni.cncf.io/networks": "second"})
	go func() {
		p, err := c.Pod(w.within(patience), w.namespace, "db-0", string(second.UID))
		if err != nil {
			t.Error(err)
		}
		found <- p
	}()
	if p := <-found; p.UID != string(second.UID) || p.Annotations["k8s.v1.cni.cncf.io/networks"] != "second" {
		t.Errorf("pod %+v", p)
	}
	_, err := c.Pod(w.within(50*time.Millisecond), w.namespace, "db-0", string(first.UID))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	for _, part := range []string{w.namespace + "/db-0", "uid wanted \"" + string(first.UID), "uid seen \"" + string(second.UID)} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want it to say %s", err, part)
		}
	}
}

func TestStaticPod(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{})
	w.create("static", node, map[string]string{"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "h1"})
	for asked, want := range map[string]string{"h1": "h1", "": "h1", "other": "other"} {
		p, err := c.Pod(w.within(patience), w.namespace, "static", asked)
		if err != nil || p.UID != want {
			t.Errorf("asked for %q: pod %+v, error %v", asked, p, err)
		}
	}
	w.create("ordinary", node, map[string]string{"kubernetes.io/config.source": "api"})
	if _, err := c.Pod(w.within(patience), w.namespace, "ordinary", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pod(w.within(50*time.Millisecond), w.namespace, "ordinary", "other"); err == nil {
		t.Error("the UID of a pod from the API server was not checked")
	}
}

func TestDefinition(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{DefinitionWait: patience})
	made := make(chan struct{})
	go func() { // a moment later, as in one kubectl apply
		defer close(made)
		w.define("vlan", `{"type":"vlan"}`, "")
		w.define("fast", `{"type":"sriov"}`, "vendor.com/pool")
	}()
	for _, want := range []cni.Definition{
		{Namespace: w.namespace, Name: "fast", Resource: "vendor.com/pool", Config: `{"type":"sriov"}`},
		{Namespace: w.namespace, Name: "vlan", Config: `{"type":"vlan"}`},
	} {
		got, err := c.Definition(w.within(patience), w.namespace, want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Name, diff)
		}
	}
	<-made // the cache may know a definition before its maker has the answer
}

func TestUnknownDefinitionIsRefused(t *testing.T) {
	w := newWorld(t)
	c := w.cache(kube.Options{DefinitionWait: time.Millisecond})
	refused := func(allowed string) {
		t.Helper()
		_, err := c.Definition(w.within(patience), w.namespace, "nowhere")
		var r *refusal.Refusal
		if !errors.As(err, &r) {
			t.Fatalf("error %v, want a refusal", err)
		}
		want := refusal.Refusal{
			Field: "k8s.v1.cni.cncf.io/networks", Value: `"` + w.namespace + `/nowhere"`,
			Allowed: "a NetworkAttachmentDefinition that exists; namespace " + w.namespace + " has " + allowed,
			Cause:   r.Cause,
		}
		if diff := cmp.Diff(want, *r, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	refused("none")
	w.define("b", "{}", "")
	w.define("a", "{}", "")
	for _, name := range []string{"a", "b"} {
		w.eventually("definition "+name+" is known", func() bool {
			_, err := c.Definition(w.within(patience), w.namespace, name)
			return err == nil
		})
	}
	refused("a, b")
}

// Until the first answer nothing is unknown, and after it nothing is forgotten.
func TestCacheWithoutTheAPIServer(t *testing.T) {
	w := newWorld(t)
	filled := w.cache(kube.Options{DefinitionWait: time.Millisecond})
	pod := w.create("web", node, nil)
	w.define("vlan", "{}", "")
	look := func() error {
		_, podErr := filled.Pod(w.within(patience), w.namespace, "web", string(pod.UID))
		_, definitionErr := filled.Definition(w.within(patience), w.namespace, "vlan")
		return errors.Join(podErr, definitionErr)
	}
	w.eventually("the cache is filled", func() bool { return look() == nil })

	w.api.Stop()
	if err := look(); err != nil {
		t.Error(err)
	}
	empty, err := kube.NewCache(w.config, node, kube.Options{DefinitionWait: time.Millisecond}, discard)
	if err != nil {
		t.Fatal(err)
	}
	w.background(empty.Run)
	if empty.Synced() {
		t.Error("synced without an API server")
	}
	_, err = empty.Pod(w.within(50*time.Millisecond), w.namespace, "web", "u")
	if err == nil || !strings.Contains(err.Error(), "the API server has not answered yet") {
		t.Errorf("error %v", err)
	}
	var r *refusal.Refusal
	_, err = empty.Definition(w.within(50*time.Millisecond), w.namespace, "vlan")
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &r) {
		t.Errorf("error %v; a definition that nobody could look for was refused", err)
	}
	if err := empty.WaitSynced(w.within(50 * time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}

	if err := w.api.Start(w.within(patience)); err != nil {
		t.Fatal(err)
	}
	w.create("after", node, nil)
	for _, c := range []*kube.Cache{filled, empty} {
		if _, err := c.Pod(w.within(patience), w.namespace, "after", ""); err != nil {
			t.Error(err)
		}
	}
}
