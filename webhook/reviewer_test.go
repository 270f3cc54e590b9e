package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tendril-cni/tendril/webhook"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/server"
	"github.com/tendril-cni/tendril/webhook/validate"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// cluster is a fixed set of definitions, and an API server that may be gone.
type cluster struct {
	networks map[string]*nad.NetworkAttachmentDefinition
	briefs   []*validate.Summary
	gone     error
	claimed  map[string]bool
	keys     []string
}

func newCluster(definitions ...*nad.NetworkAttachmentDefinition) *cluster {
	c := &cluster{networks: map[string]*nad.NetworkAttachmentDefinition{}}
	for _, d := range definitions {
		c.networks[d.Namespace+"/"+d.Name] = d
		if s := validate.Summarize(d); s != nil {
			c.briefs = append(c.briefs, s)
		}
	}
	return c
}

type known struct{ *cluster }

func (k known) Network(namespace, name string) *nad.NetworkAttachmentDefinition {
	return k.networks[namespace+"/"+name]
}
func (k known) Summaries() []*validate.Summary { return k.briefs }

func (c *cluster) Network(_ context.Context, namespace, name string) (*nad.NetworkAttachmentDefinition, error) {
	if d := c.networks[namespace+"/"+name]; d != nil {
		return d, nil
	}
	return nil, c.gone
}
func (c *cluster) Facts() validate.Facts {
	return validate.Facts{Networks: known{c}, Complete: true, ResourceKeys: c.keys}
}
func (c *cluster) Claimed(string, *corev1.Pod, []string) map[string]bool {
	return c.claimed
}

func (c *cluster) reviewer() *webhook.Reviewer {
	return &webhook.Reviewer{Cluster: c, Options: func() inject.Options { return inject.Options{} }, Checks: validate.Domains(), Log: discard}
}

func definition(name, config, resource string) *nad.NetworkAttachmentDefinition {
	return &nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: name, Annotations: map[string]string{validate.ResourceAnnotation: resource}},
		Spec:       nad.NetworkAttachmentDefinitionSpec{Config: config},
	}
}

func pod(annotation string) []byte {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{validate.NetworksAnnotation: annotation}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	raw, _ := json.Marshal(p)
	return raw
}

func request(kind string, object, old []byte) *admissionv1.AdmissionRequest {
	req := &admissionv1.AdmissionRequest{UID: "u", Namespace: "blue", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: object}}
	req.Kind.Kind = kind
	if kind != "Pod" {
		req.Kind.Group = "k8s.cni.cncf.io"
	}
	if old != nil {
		req.Operation, req.OldObject.Raw = admissionv1.Update, old
	}
	return req
}

func TestMutate(t *testing.T) {
	c := newCluster(definition("a", `{"type":"sriov"}`, "v.io/a"), definition("plain", `{"type":"macvlan"}`, ""))
	for annotation, want := range map[string]string{"": "allowed", "plain": "allowed", "a": "patched", "a,": "P001", "gone": "P002", "red/a": "P002"} {
		resp := c.reviewer().Mutate(t.Context(), request("Pod", pod(annotation), nil))
		wantAnswer(t, annotation, resp, want)
	}
	update := request("Pod", pod("a"), pod(""))
	wantAnswer(t, "update", c.reviewer().Mutate(t.Context(), update), "allowed")
	c.claimed = map[string]bool{"v.io/a": true}
	var claiming corev1.Pod
	if err := json.Unmarshal(pod("a"), &claiming); err != nil {
		t.Fatal(err)
	}
	claiming.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x"}}
	raw, err := json.Marshal(claiming)
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, "claimed", c.reviewer().Mutate(t.Context(), request("Pod", raw, nil)), "allowed")
}

func TestInvariant1APIServerGone(t *testing.T) {
	c := newCluster()
	c.gone = errors.New("connection refused")
	for name, review := range map[string]server.Review{"mutate": c.reviewer().Mutate, "validate": c.reviewer().Validate} {
		resp := review(t.Context(), request("Pod", pod("net"), nil))
		if resp.Allowed || !strings.Contains(resp.Result.Message, "connection refused") || !strings.Contains(resp.Result.Message, "blue/net") {
			t.Errorf("%s: %+v", name, resp)
		}
	}
}

func TestValidate(t *testing.T) {
	good, bad := definition("n", `{"type":"macvlan"}`, ""), definition("n", `{"type":"macvlan","mode":"x"}`, "")
	raw := func(d *nad.NetworkAttachmentDefinition) []byte {
		out, _ := json.Marshal(d)
		return out
	}
	ending := definition("n", `{`, "")
	ending.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	c := newCluster(good)
	const kind = "NetworkAttachmentDefinition"
	for what, tt := range map[string]struct {
		req  *admissionv1.AdmissionRequest
		want string
	}{
		"good":                      {request(kind, raw(good), nil), "allowed"},
		"bad":                       {request(kind, raw(bad), nil), "N006"},
		"bad before":                {request(kind, raw(bad), raw(bad)), "allowed"},
		"being deleted":             {request(kind, raw(ending), raw(good)), "allowed"},
		"pod":                       {request("Pod", pod("n"), nil), "allowed"},
		"pod of another":            {request("Pod", pod("n@eth0"), nil), "P003"},
		"pod edited beside it":      {request("Pod", pod("n@eth0"), pod("n@eth0")), "allowed"},
		"pod asks for more":         {request("Pod", pod("n@eth0"), pod("")), "P003"},
		"a kind that nobody knows":  {request("Other", []byte(`{`), nil), "allowed"},
		"a policy without networks": {request("MultiNetworkPolicy", []byte(`{"metadata":{"name":"p"}}`), nil), "M001"},
	} {
		wantAnswer(t, what, c.reviewer().Validate(t.Context(), tt.req), tt.want)
	}
	gone := request(kind, nil, raw(bad))
	gone.Operation = admissionv1.Delete
	wantAnswer(t, "deletion", c.reviewer().Validate(t.Context(), gone), "allowed")
}

// TestWarnings: what only warns reaches whoever made the object.
func TestWarnings(t *testing.T) {
	c := newCluster(definition("n", `{"type":"macvlan"}`, "v.io/a"))
	raw := bytes.Replace(pod("n,n"), []byte(`"resources":{}`), []byte(`"resources":{"limits":{"v.io/a":"1"}}`), 1)
	resp := c.reviewer().Validate(t.Context(), request("Pod", raw, nil))
	if !resp.Allowed || len(resp.Warnings) != 1 || !strings.HasPrefix(resp.Warnings[0], "P007: ") {
		t.Errorf("%+v", resp)
	}
}

func wantAnswer(t *testing.T, what string, resp *admissionv1.AdmissionResponse, want string) {
	t.Helper()
	got := "allowed"
	switch {
	case !resp.Allowed:
		got = resp.Result.Message
	case len(resp.Patch) > 0:
		got = "patched"
	}
	if resp.UID != "u" || got != want && !strings.HasPrefix(got, want+": ") || (resp.PatchType != nil) != (len(resp.Patch) > 0) {
		t.Errorf("%s: %s (%+v), want %s", what, got, resp, want)
	}
}

func TestMatchCondition(t *testing.T) {
	plain, more := webhook.MatchCondition(nil), webhook.MatchCondition([]string{"b/x", "a", "a"})
	if strings.Contains(plain, `"a"`) || strings.Count(more, `"a" in`) != 1 || strings.Count(more, `"b/x" in`) != 1 {
		t.Errorf("%s\n%s", plain, more)
	}
	// The manifest has the condition without labels, to the byte, so that the
	// controller has nothing to change where nobody injects by label.
	manifest, err := os.ReadFile("../deployment/manifests/controller.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := validate.Decode("controller.yaml", manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		var c admissionregistrationv1.MutatingWebhookConfiguration
		if o.Kind.Kind != "MutatingWebhookConfiguration" || json.Unmarshal(o.Raw, &c) != nil {
			continue
		}
		if got := c.Webhooks[0].MatchConditions[0].Expression; got != plain {
			t.Errorf("manifest has\n%s\nwant\n%s", got, plain)
		}
		return
	}
	t.Error("the manifest has no MutatingWebhookConfiguration")
}

// FuzzReview sends any bytes through the HTTP handler of both webhooks.
func FuzzReview(f *testing.F) {
	c := newCluster(definition("a", `{"type":"sriov"}`, "v.io/a"))
	f.Add([]byte(`{}`), true)
	for _, object := range []string{string(pod("a")), string(pod("a,a@x")), `[null]`, `{"spec":{}}`, `{"metadata":{"annotations":{"k8s.v1.cni.cncf.io/networks":"a"}},"spec":{"containers":[]}}`, `{"metadata":{"annotations":{"k8s.v1.cni.cncf.io/networks":"[null]"}}}`, `null`} {
		for _, kind := range []string{"Pod", "NetworkAttachmentDefinition", "MultiNetworkPolicy", "VFPolicy"} {
			for _, op := range []string{"CREATE", "UPDATE"} {
				f.Add(fmt.Appendf(nil, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"blue","operation":%q,"kind":{"kind":%q},"object":%s,"oldObject":%s}}`, op, kind, object, object), kind == "Pod")
			}
		}
	}
	metrics := server.NewMetrics(prometheus.NewRegistry(), func() time.Time { return time.Time{} })
	s := &server.Server{Mutate: c.reviewer().Mutate, Validate: c.reviewer().Validate, Metrics: metrics, Log: discard}
	handler := s.Handler()
	f.Fuzz(func(t *testing.T, body []byte, mutate bool) {
		path := server.ValidatePath
		if mutate {
			path = server.MutatePath
		}
		req := httptest.NewRequest("POST", path, bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		var out admissionv1.AdmissionReview
		if w.Code == 200 && (json.Unmarshal(w.Body.Bytes(), &out) != nil || out.Response == nil || !out.Response.Allowed && out.Response.Result.Message == "") {
			t.Fatalf("response %s", w.Body)
		}
	})
}

// BenchmarkMutate is a pod with two networks of 5,000, many at a time.
func BenchmarkMutate(b *testing.B) {
	var all []*nad.NetworkAttachmentDefinition
	for i := range 5000 {
		all = append(all, definition(fmt.Sprintf("n%d", i), `{"cniVersion":"1.0.0","type":"sriov","vlan":5,"ipam":{"type":"whereabouts","range":"10.0.0.0/16"}}`, "v.io/a"))
	}
	benchmark(b, newCluster(all...).reviewer().Mutate, request("Pod", pod("n17,n4711"), nil))
}

// BenchmarkMutateHTTPS is BenchmarkMutate as the API server sees it, over kept
// connections.
func BenchmarkMutateHTTPS(b *testing.B) {
	var all []*nad.NetworkAttachmentDefinition
	for i := range 5000 {
		all = append(all, definition(fmt.Sprintf("n%d", i), `{"cniVersion":"1.0.0","type":"sriov","vlan":5}`, "v.io/a"))
	}
	r := newCluster(all...).reviewer()
	metrics := server.NewMetrics(prometheus.NewRegistry(), func() time.Time { return time.Time{} })
	https := httptest.NewTLSServer((&server.Server{Mutate: r.Mutate, Validate: r.Validate, Metrics: metrics, Log: discard}).Handler())
	defer https.Close()
	https.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	body, _ := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request("Pod", pod("n17,n4711"), nil),
	})
	benchmark(b, func(context.Context, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		resp, err := https.Client().Post(https.URL+server.MutatePath, "application/json", bytes.NewReader(body))
		if err != nil {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
		}
		defer resp.Body.Close()
		var out admissionv1.AdmissionReview
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
		}
		return out.Response
	}, nil)
}

// BenchmarkValidatePod is the same pod, judged.
func BenchmarkValidatePod(b *testing.B) {
	var all []*nad.NetworkAttachmentDefinition
	for i := range 5000 {
		all = append(all, definition(fmt.Sprintf("n%d", i), `{"cniVersion":"1.0.0","type":"sriov","vlan":5,"ipam":{"type":"whereabouts","range":"10.0.0.0/16"}}`, "v.io/a"))
	}
	benchmark(b, newCluster(all...).reviewer().Validate, request("Pod", pod("n17,n4711"), nil))
}

// BenchmarkValidateNetwork is one more definition, held against 5,000.
func BenchmarkValidateNetwork(b *testing.B) {
	var all []*nad.NetworkAttachmentDefinition
	for i := range 5000 {
		all = append(all, definition(fmt.Sprintf("n%d", i), fmt.Sprintf(`{"type":"macvlan","master":"eth0","ipam":{"type":"host-local","subnet":"10.%d.%d.0/24"}}`, i/256, i%256), ""))
	}
	raw, _ := json.Marshal(definition("new", `{"type":"macvlan","master":"eth0","ipam":{"type":"host-local","subnet":"10.200.0.0/24"}}`, ""))
	benchmark(b, newCluster(all...).reviewer().Validate, request("NetworkAttachmentDefinition", raw, nil))
}

func benchmark(b *testing.B, review server.Review, req *admissionv1.AdmissionRequest) {
	var mu sync.Mutex
	var times []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		var own []time.Duration
		for p.Next() {
			start := time.Now()
			if resp := review(b.Context(), req); !resp.Allowed {
				b.Errorf("%+v", resp)
				return
			}
			own = append(own, time.Since(start))
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, own...)
	})
	b.StopTimer()
	if slices.Sort(times); len(times) > 0 {
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
		b.ReportMetric(float64(len(times))/b.Elapsed().Seconds(), "reviews/s")
	}
}
