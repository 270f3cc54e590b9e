package admission_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/cmd/tendril-controller/admission"
	"github.com/tendril-cni/tendril/cni/netconf"
)

const macvlan = `{"cniVersion":"0.3.1","type":"macvlan","master":"eth0","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}`

var resourceOf = map[string]string{"k8s.v1.cni.cncf.io/resourceName": "v.io/a"}

// TestPodGetsWhatItsNetworksNeed is a pod created through a real API server that
// calls the webhooks.
func TestPodGetsWhatItsNetworksNeed(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.mustDefine("fast", `{"type":"sriov","vlan":42}`, map[string]string{"k8s.v1.cni.cncf.io/resourceName": "v.io/a", "k8s.v1.cni.cncf.io/nodeSelector": "zone=x"})
	// The definition was made a moment ago; the pod does not wait for a watch.
	pod, err := w.pod("p", map[string]string{"k8s.v1.cni.cncf.io/networks": "fast, fast"}, map[string]string{"app": "x"})
	if err != nil {
		t.Fatal(err)
	}
	c := pod.Spec.Containers[0]
	got := []string{}
	for _, q := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits, pod.Spec.Containers[1].Resources.Limits} {
		n := q["v.io/a"]
		got = append(got, n.String())
	}
	got = append(got, fmt.Sprint(pod.Spec.NodeSelector), fmt.Sprint(len(c.VolumeMounts)), pod.Annotations["tendril.dev/injected"])
	want := []string{"2", "2", "0", "map[zone:x]", "1", `{"v.io/a":2}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestInvariant9EachDenialNamesItsCode goes through the API server, as users do.
func TestInvariant9EachDenialNamesItsCode(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.mustDefine("net", macvlan, nil)
	w.mustDefine("x", macvlan, map[string]string{"k8s.v1.cni.cncf.io/nodeSelector": "zone=x"})
	w.mustDefine("y", macvlan, map[string]string{"k8s.v1.cni.cncf.io/nodeSelector": "zone=y"})
	for annotation, want := range map[string]string{
		`[{"name":"net"},{"name":"net","mac":"x"}]`: "P004",
		`[{"name":"net"},{"name":5}]`:               "P001: Pod",
		`[{"name":"net"},]`:                         "at line 1, column 17, byte 16",
		"net,nett":                                  `[1].name: value`,
		"net@lo":                                    "P003",
		`[{"name":"net","ips":["10.2.0.1"]}]`:       "P004",
		`[{"name":"net","portMappings":[{"hostPort":1,"containerPort":2}]}]`: "P005",
		"x,y": "zone=x",
	} {
		_, err := w.pod("denied", map[string]string{"k8s.v1.cni.cncf.io/networks": annotation}, nil)
		wantDenied(t, annotation, err, want)
	}
	running, err := w.pod("running", map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	running.Annotations["k8s.v1.cni.cncf.io/networks"] = "net,nett" // asks for one more
	_, err = w.client.CoreV1().Pods(w.namespace).Update(t.Context(), running, metav1.UpdateOptions{})
	wantDenied(t, "update", err, "P002")
	for config, want := range map[string]string{
		`{"type":"sriov","vlan":5000,"deviceID":"0000:00:00.1"}`:                 "N005",
		`{"type":"macvlan","mode":"l2"}`:                                         "N006",
		`{"type":"macvlan",}`:                                                    "N001",
		`{"type":"macvlan","ipam":{"type":"host-local","subnet":"10.1.0.5/24"}}`: "N007",
		`{"type":"sriov"}`:                                                       "N010",
	} {
		wantDenied(t, config, w.define("denied", config, nil), want)
	}
}

func wantDenied(t *testing.T, what string, err error, want string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want a denial with %q", what, err, want)
		return
	}
	if code := status.Status().Code; code < 400 || code >= 500 {
		t.Errorf("%s: code %d, want a refusal of the request", what, code)
	}
}

// TestInvariant1WebhooksAway has no replica: pods that ask for nothing are not
// held up, those that ask do not start without what they ask for, and what is
// malformed is still said to be so.
func TestInvariant1WebhooksAway(t *testing.T) {
	w := newWorld(t)
	if err := w.define("net", macvlan, nil); err != nil {
		t.Errorf("a good definition: %v", err)
	}
	if _, err := w.pod("plain", map[string]string{"other": "x"}, map[string]string{"app": "x"}); err != nil {
		t.Errorf("a pod that asks for nothing: %v", err)
	}
	_, err := w.pod("asks", map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil)
	if err == nil || !strings.Contains(err.Error(), "mutate-pods.tendril.dev") {
		t.Errorf("a pod that asks: %v, want a failing webhook", err)
	}
	// Mutation comes before policies, so only an update shows a policy alone.
	plain, err := w.client.CoreV1().Pods(w.namespace).Get(t.Context(), "plain", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a,,b", "A", "a/b/c", "a@b@c", "{}", `["a"`, "a b", "a@sixteen-bytes-xx"} {
		plain.Annotations["k8s.v1.cni.cncf.io/networks"] = bad
		_, err := w.client.CoreV1().Pods(w.namespace).Update(t.Context(), plain, metav1.UpdateOptions{})
		wantDenied(t, bad, err, "P001: field metadata.annotations")
	}
	for config, want := range map[string]string{
		`"x"`: "N001", `{"name":"x"}`: "N002", `{"type":"a","cniVersion":"2.0.0"}`: "N004",
		`{"type":"bridge", "vlan" : 4095}`: "N005", `{"type":"sriov","deviceID":"x","vlanQoS":8}`: "N005",
		`{"type":"macvlan","mode":"l2"}`: "N006", `{"type":"ipvlan","mode":"bridge"}`: "N006", `{"type":"sriov"}`: "N010",
	} {
		wantDenied(t, config, w.define("denied", config, nil), want)
	}
}

// TestSwitchesFollowTheConfigMap: a pod with an injected label reaches the
// webhook although it has no annotation, because the webhook configuration
// follows the ConfigMap; without it the command line holds again.
func TestSwitchesFollowTheConfigMap(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.mustDefine("net", macvlan, resourceOf)
	w.switches(`{"user-defined-injections":{"want.net":{"op":"add","path":"/metadata/annotations","value":{"k8s.v1.cni.cncf.io/networks":"net"}}}}`)
	n := 0
	create := func() (injected bool) {
		n++
		pod, err := w.pod(fmt.Sprintf("p%d", n), nil, map[string]string{"want.net": "true"})
		if err != nil {
			t.Fatal(err)
		}
		_, injected = pod.Spec.Containers[0].Resources.Limits["v.io/a"]
		return injected
	}
	w.eventually("injection by label", func() error {
		if !create() {
			return errors.New("not injected")
		}
		return nil
	})
	if err := w.client.CoreV1().ConfigMaps("tendril-system").Delete(t.Context(), "nri-control-switches", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("end of injection by label", func() error {
		if create() {
			return errors.New("injected")
		}
		return nil
	})
}

// TestConfigurationIsMendedAtOnce: an upgrade applies the manifest anew, and with it
// the condition of a cluster without switches. Until that is mended, pods that get
// their networks by label are started without; so nobody waits for the next look at
// the certificate.
func TestConfigurationIsMendedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.replica(func(c *admission.Config) { c.Interval, c.Policy.Overlap = 10*patience, 10*patience })
	w.switches(`{"user-defined-injections":{"want.net":{"op":"add","path":"/metadata/annotations","value":{"k8s.v1.cni.cncf.io/networks":"net"}}}}`)
	asked := func() error {
		c, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "tendril", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if condition := c.Webhooks[0].MatchConditions[0].Expression; !strings.Contains(condition, "want.net") {
			return errors.New(condition)
		}
		return nil
	}
	w.eventually("condition with the label", asked)
	w.install()
	w.eventually("condition with the label, after an upgrade", asked)
	bundle := w.bundle()
	for _, kind := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} {
		patch := []byte(`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`)
		if err := w.client.AdmissionregistrationV1().RESTClient().Patch(types.JSONPatchType).Resource(kind).Name("tendril").Body(patch).Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("authority of both", func() error {
		c, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "tendril", metav1.GetOptions{})
		if err == nil && (!bytes.Equal(c.Webhooks[0].ClientConfig.CABundle, bundle) || !bytes.Equal(w.bundle(), bundle)) {
			err = errors.New("not published")
		}
		return err
	})
}

// TestOptOut: the namespaces that are excluded, and namespaces and pods that
// exclude themselves, are not held up by webhooks that are away, nor judged by the
// static policies.
func TestOptOut(t *testing.T) {
	w := newWorld(t)
	out := map[string]string{"tendril.dev/webhook": "disabled"}
	for name, annotation := range map[string]string{"labelled": "net", "labelled-malformed": "a,,b"} {
		w.eventually("a pod that opted out", func() error {
			_, err := w.pod(name, map[string]string{"k8s.v1.cni.cncf.io/networks": annotation}, out)
			return err
		})
	}
	if _, err := w.pod("not-labelled", map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil); err == nil {
		t.Error("a pod that did not opt out is admitted without its webhooks")
	}
	label := []byte(`{"metadata":{"labels":{"tendril.dev/webhook":"disabled"}}}`)
	if _, err := w.client.CoreV1().Namespaces().Patch(t.Context(), w.namespace, "application/merge-patch+json", label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("a namespace that opted out", func() error {
		_, err := w.pod("opted-out", map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil)
		return err
	})
	for _, ns := range []string{"kube-system", "tendril-system"} {
		w.namespace = ns
		if _, err := w.pod("system", map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil); err != nil {
			t.Errorf("%s: %v", ns, err)
		}
		if err := w.client.CoreV1().Pods(ns).Delete(t.Context(), "system", *metav1.NewDeleteOptions(0)); err != nil {
			t.Error(err)
		}
	}
}

// TestAPIServerRestart: watches resume, and what was made since is known.
func TestAPIServerRestart(t *testing.T) {
	w := newWorld(t)
	r := w.replica()
	w.mustDefine("before", macvlan, resourceOf)
	w.api.Stop()
	if err := probe(r.health, "/healthz"); err != nil {
		t.Errorf("without API server: %v", err)
	}
	if err := w.api.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("a new definition", func() error { return w.define("after", macvlan, resourceOf) })
	w.eventually("injection after the restart", func() error {
		pod, err := w.pod("p", map[string]string{"k8s.v1.cni.cncf.io/networks": "before,after"}, nil)
		if err != nil {
			return err
		}
		if q := pod.Spec.Containers[0].Resources.Limits["v.io/a"]; q.Value() != 2 {
			return fmt.Errorf("limit %s", q.String())
		}
		return nil
	})
}

// TestControllerIsRestricted: the Deployment's pods pass the strictest pod
// security standard.
func TestControllerIsRestricted(t *testing.T) {
	w := newWorld(t)
	label := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := w.client.CoreV1().Namespaces().Patch(t.Context(), w.namespace, "application/merge-patch+json", label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The plugin that enforces it reads namespaces from a cache of its own.
	tries := 0
	w.eventually("the standard to be in force", func() error {
		tries++
		if _, err := w.pod(fmt.Sprintf("loose-%d", tries), nil, nil); err == nil {
			return errors.New("a pod without a security context was taken")
		}
		return nil
	})
	d, err := w.client.AppsV1().Deployments("tendril-system").Get(t.Context(), "tendril-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "strict"}, Spec: d.Spec.Template.Spec}
	pod.Spec.ServiceAccountName = ""
	if _, err := w.client.CoreV1().Pods(w.namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

// TestOtherDomains: kinds of other domains are judged by their own validators,
// and blocks of addresses by a static policy.
func TestOtherDomains(t *testing.T) {
	w := newWorld(t)
	w.replica()
	const policy = `{apiVersion: tendril.dev/v1alpha1, kind: VFPolicy, metadata: {name: p}, spec: {nicSelector: {pfNames: [eth0]}, numVFs: 4, resourceName: a, vfs: [{range: 0-1, resourceName: b}, {range: %s, resourceName: c}]}}`
	const block = `{apiVersion: tendril.dev/v1alpha1, kind: AddressBlock, metadata: {name: b}, spec: {cell: 10.0.0.%d/26, seq: %d, slots: [%s]}}`
	const held = "{slot: 5, seq: 1, node: one, uid: u}"
	for _, step := range []struct{ apply, remove, want string }{
		{apply: fmt.Sprintf(policy, "2-3")},
		{apply: fmt.Sprintf(policy, "1-3"), want: "R001: VFPolicy"},
		{apply: fmt.Sprintf(block, 0, 1, held)},
		{apply: fmt.Sprintf(block, 64, 2, held), want: "R003"},
		{remove: "addressblock", want: "R003"},
		{apply: fmt.Sprintf(block, 0, 2, "")},
		{remove: "addressblock"},
	} {
		var err error
		if step.remove == "" {
			err = w.api.Apply(t.Context(), step.apply)
		} else {
			_, err = w.api.Kubectl(t.Context(), "delete", step.remove, "b", "--wait=false")
		}
		if step.want == "" && err != nil || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%+v: %v", step, err)
		}
	}
}

// TestPoliciesAreNotStricterThanTheWebhooks: with the webhooks away, the static
// policies let through everything that the upstream projects document, and every
// form of the annotation that the parser takes.
func TestPoliciesAreNotStricterThanTheWebhooks(t *testing.T) {
	w := newWorld(t)
	archive, err := txtar.ParseFile(filepath.Join("..", "..", "..", "webhook", "validate", "testdata", "upstream.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range archive.Files {
		config, annotations := string(f.Data), map[string]string(nil)
		if rest, ok := strings.CutPrefix(config, "resource: "); ok {
			resource, text, _ := strings.Cut(rest, "\n")
			annotations, config = map[string]string{"k8s.v1.cni.cncf.io/resourceName": resource}, text
		}
		if err := w.define(fmt.Sprintf("example-%d", i), config, annotations); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	plain, err := w.pod("plain", map[string]string{"other": "x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"", " ", "a", "red/a@eth1", " red / a @ Up1 , b", "/a@", "0-1", "a@fifteen-bytes.x", "[]", ` [ {"name":"a"} ] `} {
		if _, err := netconf.ParseSelections(good, "blue"); err != nil {
			t.Fatalf("%q: %v", good, err)
		}
		plain.Annotations["k8s.v1.cni.cncf.io/networks"] = good
		_, err := w.client.CoreV1().Pods(w.namespace).Update(t.Context(), plain, metav1.UpdateOptions{})
		if err != nil && strings.Contains(err.Error(), "P001") { // the webhook that is away is another matter
			t.Errorf("%q: %v", good, err)
		}
	}
}

// TestReplicaReplacedUnderLoad: one of two replicas ends in order while a real API
// server calls both over connections that it keeps. No pod is turned away.
func TestReplicaReplacedUnderLoad(t *testing.T) {
	w := newWorld(t)
	drains := func(c *admission.Config) { c.Drain = 2 * time.Second }
	first := w.replica(drains)
	w.replica(drains)
	w.mustDefine("net", macvlan, resourceOf)
	stop := make(chan struct{})
	var group sync.WaitGroup
	var made atomic.Int64
	for i := range 4 {
		group.Go(func() {
			for n := 0; !closed(stop); n++ {
				if _, err := w.pod(fmt.Sprintf("p%d-%d", i, n), map[string]string{"k8s.v1.cni.cncf.io/networks": "net"}, nil); err != nil {
					t.Errorf("pod: %v", err)
					return
				}
				made.Add(1)
			}
		})
	}
	more := func(what string) {
		from := made.Load()
		w.eventually(what, func() error {
			if n := made.Load() - from; n < 20 && !t.Failed() {
				return fmt.Errorf("%d pods", n)
			}
			return nil
		})
	}
	more("pods with both")
	first.stop()
	more("pods with one")
	w.replica(drains)
	more("pods with another")
	close(stop)
	group.Wait()
	t.Logf("%d pods", made.Load())
}
