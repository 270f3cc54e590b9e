package inject_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"github.com/rogpeppe/go-internal/txtar"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// world is one case of testdata: what is there, and the pod as it comes out.
type world struct {
	pod      []byte // JSON
	networks map[string]*nad.NetworkAttachmentDefinition
	keys     []string
	claimed  map[string]bool
	options  inject.Options
	want     map[string]string // want.yaml, want.error, want.warnings
}

// TestOutcome compares the final pod: the patch is applied by a library that
// knows nothing of the injector. A second pass has nothing to add.
func TestOutcome(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			w := load(t, name)
			out, err := w.plan(t, w.pod)
			if want := strings.TrimSpace(w.want["want.error"]); want != "" {
				wantRefusal(t, err, want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			final := apply(t, w.pod, out.Patch)
			if diff := cmp.Diff(tree(t, []byte(w.want["want.yaml"])), tree(t, final)); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(strings.TrimSpace(w.want["want.warnings"]), strings.Join(out.Warnings, "\n")); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			again, err := w.plan(t, final)
			if err != nil || len(again.Patch) != 0 {
				t.Errorf("a second pass: %v, error %v, want nothing to do", again.Patch, err)
			}
		})
	}
}

// TestMoreNetworksOnTheSecondPass is another webhook that adds a network between
// two passes: the difference is added, in both modes.
func TestMoreNetworksOnTheSecondPass(t *testing.T) {
	for _, honor := range []bool{false, true} {
		pod := `{"metadata":{"annotations":{"k8s.v1.cni.cncf.io/networks":"a"}},"spec":{"containers":[{"name":"c"}]}}`
		networks := []inject.Network{{Ref: "x/a", Resources: []string{"v.io/r"}}}
		o := inject.Options{Honor: honor}
		for n := 1; n <= 3; n++ {
			out, err := inject.Plan(decode(t, []byte(pod)), networks, nil, o)
			if err != nil {
				t.Fatal(err)
			}
			pod = string(apply(t, []byte(pod), out.Patch))
			limits := decode(t, []byte(pod)).Spec.Containers[0].Resources.Limits["v.io/r"]
			if limits.Value() != int64(n) {
				t.Fatalf("honor %v: with %d networks the limit is %s", honor, n, limits.String())
			}
			networks = append(networks, networks[0])
		}
	}
}

func TestInjectedRecordOfAnotherPodCountsNothing(t *testing.T) {
	pod := []byte(`{"metadata":{"annotations":{"tendril.dev/injected":"{\"v.io/r\":1}"}},"spec":{"containers":[{"name":"c","resources":{}}]}}`)
	out, err := inject.Plan(decode(t, pod), []inject.Network{{Ref: "x/a", Resources: []string{"v.io/r"}}}, nil, inject.Options{})
	if err != nil {
		t.Fatal(err)
	}
	limit := decode(t, apply(t, pod, out.Patch)).Spec.Containers[0].Resources.Limits["v.io/r"]
	if limit.Value() != 1 {
		t.Errorf("limit %s, want 1", limit.String())
	}
}

func TestSwitches(t *testing.T) {
	flags := inject.Options{Honor: true}
	for text, want := range map[string]inject.Options{
		`{}`:              {Honor: true},
		`{"features":{}}`: {Honor: true},
		`{"features":{"enableHonorExistingResources":false,"enableHugePageDownApi":true}}`: {Hugepages: true},
		`{"features":{"enableHugePageDownApi":true}}`:                                      {Honor: true, Hugepages: true},
		`not json`: {Honor: true},
		`{"user-defined-injections":{"l":{"op":"add","path":"/metadata/annotations","value":{"a":"b"}}}}`: {
			Honor: true, Injections: []inject.Injection{{Label: "l", Annotations: map[string]string{"a": "b"}}}},
		`{"user-defined-injections":{"l":{"op":"remove","path":"/metadata/annotations"},"m":{"op":"add","path":"/spec"}}}`: {Honor: true},
	} {
		got, err := flags.With(text)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		wantErr := strings.Contains(text, "not json") || strings.Contains(text, "remove")
		var r *refusal.Refusal
		if (err != nil) != wantErr || err != nil && !errors.As(err, &r) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"c","resources":{"limits":{"v.io/r":"1"}}}]}}`), "v.io/r", "a=b", true)
	f.Add([]byte(`{"metadata":{"annotations":{"tendril.dev/injected":"{\"v.io/r\":-1}"}},"spec":{"containers":[]}}`), "", "=", false)
	f.Fuzz(func(t *testing.T, raw []byte, resource, selector string, honor bool) {
		var pod corev1.Pod
		if json.Unmarshal(raw, &pod) != nil {
			return
		}
		networks := []inject.Network{{Ref: "x/a", Resources: []string{resource}, Selector: selector}}
		out, err := inject.Plan(&pod, networks, nil, inject.Options{Honor: honor, Hugepages: true})
		var r *refusal.Refusal
		if err != nil && (!errors.As(err, &r) || r.Allowed == "") {
			t.Fatalf("%v is not a whole refusal", err)
		}
		if _, err := json.Marshal(out.Patch); err != nil {
			t.Fatal(err)
		}
	})
}

func load(t *testing.T, name string) *world {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{networks: map[string]*nad.NetworkAttachmentDefinition{}, claimed: map[string]bool{}, want: map[string]string{}}
	for _, f := range archive.Files {
		switch f.Name {
		case "pod.yaml":
			w.pod = toJSON(t, f.Data)
		case "networks.yaml":
			w.define(t, f.Data)
		case "config.json":
			if w.options, err = w.options.With(string(f.Data)); err != nil {
				t.Fatal(err)
			}
		case "keys":
			w.keys = strings.Fields(string(f.Data))
		case "claimed":
			for _, r := range strings.Fields(string(f.Data)) {
				w.claimed[r] = true
			}
		default:
			w.want[f.Name] = string(f.Data)
		}
	}
	return w
}

func (w *world) define(t *testing.T, data []byte) {
	t.Helper()
	objects, err := validate.Decode("networks.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		d := &nad.NetworkAttachmentDefinition{}
		if err := json.Unmarshal(o.Raw, d); err != nil {
			t.Fatal(err)
		}
		w.networks["default/"+d.Name] = d
	}
}

// plan reads the pod as the API server sent it and injects.
func (w *world) plan(t *testing.T, raw []byte) (inject.Outcome, error) {
	t.Helper()
	pod := decode(t, raw)
	annotations, _ := w.options.Effective(pod.Labels, pod.Annotations)
	selections, bad := validate.Select("pod", "default", annotations, validate.Facts{})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	var networks []inject.Network
	for _, s := range selections {
		d := w.networks[s.Element.Ref()]
		if d == nil {
			t.Fatalf("no definition %s", s.Element.Ref())
		}
		networks = append(networks, inject.Network{Ref: s.Element.Ref(), Resources: validate.ResourcesOf(d, w.keys), Selector: d.Annotations[inject.SelectorAnnotation]})
	}
	return inject.Plan(pod, networks, w.claimed, w.options)
}

func apply(t *testing.T, pod []byte, ops []inject.Operation) []byte {
	t.Helper()
	if len(ops) == 0 {
		return pod
	}
	text, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(pod)
	if err != nil {
		t.Fatalf("apply %s: %v", text, err)
	}
	return out
}

func decode(t *testing.T, raw []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func toJSON(t *testing.T, data []byte) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// tree is a text as maps, for a comparison that sees every field.
func tree(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want a refusal with %q", err, want)
	}
}
