package webhook_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tendril-cni/tendril/tests/lab/programs"
	"github.com/tendril-cni/tendril/webhook/inject"
	"github.com/tendril-cni/tendril/webhook/validate"
)

const otherKey = "example.com/second-resource"

// asked is one pod in one cluster, for both injectors.
type asked struct {
	switches string
	networks []*nad.NetworkAttachmentDefinition
	pod      *corev1.Pod
}

// TestSamePodsAsTheInjector gives a thousand pods to the network resources
// injector itself and compares what comes out: bytes of the pod as the API server
// would store it. Left aside is what docs/compatibility.md names: our record of
// what was injected, and annotations by label on pods that need no resource.
func TestSamePodsAsTheInjector(t *testing.T) {
	injector, err := programs.Injector(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]string{{validate.ResourceAnnotation}, {validate.ResourceAnnotation, otherKey}} {
		random := rand.New(rand.NewPCG(7, uint64(len(keys))))
		var all []asked
		for range 500 {
			all = append(all, randomCase(random))
		}
		changed := 0
		for i, theirs := range theirAnswers(t, injector, keys, all) {
			ours := ourAnswer(t, keys, all[i])
			before, _ := json.Marshal(all[i].pod)
			if ours != string(before) {
				changed++
			}
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("case %d, keys %v, switches %s, pod\n%s\n(-injector +ours)\n%s", i, keys, all[i].switches, before, diff)
				return
			}
		}
		t.Logf("%d pods, of which %d are changed", len(all), changed)
		if changed < len(all)/3 {
			t.Error("most pods need nothing: that compares little")
		}
	}
}

// pick returns one of the values.
func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func randomCase(r *rand.Rand) asked {
	a := asked{switches: pick(r, `{"features":{}}`, `{"features":{"enableHugePageDownApi":true}}`, `{"features":{"enableHonorExistingResources":true}}`,
		`{"features":{"enableHugePageDownApi":true,"enableHonorExistingResources":true},"user-defined-injections":{"inject.me":{"op":"add","path":"/metadata/annotations","value":{"by":"label"}}}}`)}
	for i := range 4 {
		d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: fmt.Sprintf("n%d", i), Annotations: map[string]string{"note": "x"}}}
		for key, value := range map[string]string{
			validate.ResourceAnnotation: pick(r, "", "v.io/a", "v.io/a", "v.io/b"), otherKey: pick(r, "", "", "v.io/b", "v.io/c"),
			inject.SelectorAnnotation: pick(r, "", "", "zone=x", "disk"),
		} {
			if value != "" {
				d.Annotations[key] = value
			}
		}
		a.networks = append(a.networks, d)
	}
	a.pod = randomPod(r)
	return a
}

func randomPod(r *rand.Rand) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: "p", Annotations: map[string]string{}}}
	p.Annotations[validate.NetworksAnnotation] = randomNetworks(r)
	if r.IntN(5) == 0 {
		p.Annotations[validate.DefaultNetworkAnnotation] = fmt.Sprintf("blue/n%d", r.IntN(4))
	}
	p.Labels = pick(r, nil, map[string]string{"app": "x"}, map[string]string{"inject.me": "TRUE"}, map[string]string{"inject.me": "no"})
	p.Spec.NodeSelector = pick(r, nil, map[string]string{"a": "b"}, map[string]string{"zone": "x"})
	p.Spec.Volumes = pick(r, nil, []corev1.Volume{{Name: "data"}}, []corev1.Volume{{Name: "podnetinfo"}})
	for i := range 1 + r.IntN(3) {
		p.Spec.Containers = append(p.Spec.Containers, randomContainer(r, fmt.Sprintf("c%d", i)))
	}
	if r.IntN(4) == 0 {
		p.Spec.InitContainers = []corev1.Container{randomContainer(r, "init")}
	}
	return p
}

func randomNetworks(r *rand.Rand) string {
	var short, long []string
	for i := range r.IntN(4) {
		name := fmt.Sprintf("n%d", r.IntN(4))
		short = append(short, pick(r, name, "blue/"+name, fmt.Sprintf("%s@if%d", name, i)))
		long = append(long, pick(r, fmt.Sprintf(`{"name":%q}`, name), fmt.Sprintf(`{"name":%q,"namespace":"blue","interface":"if%d"}`, name, i)))
	}
	if len(short) == 0 {
		return ""
	}
	return pick(r, strings.Join(short, ", "), strings.Join(short, ","), "["+strings.Join(long, ",")+"]")
}

func randomContainer(r *rand.Rand, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "none"}
	quantities := func() corev1.ResourceList {
		out := corev1.ResourceList{}
		for res, values := range map[corev1.ResourceName][]string{
			"cpu": {"", "500m"}, "v.io/a": {"", "", "", "2"}, "v.io/b": {"", "", "", "1"}, "hugepages-1Gi": {"", "", "2Gi"}, "hugepages-2Mi": {"", "", "4Mi", "0"},
		} {
			if v := pick(r, values...); v != "" {
				out[res] = resource.MustParse(v)
			}
		}
		return out
	}
	switch r.IntN(4) {
	case 0:
		c.Resources.Limits = quantities()
	case 1:
		c.Resources.Requests = quantities()
	case 2:
		c.Resources.Limits = quantities()
		c.Resources.Requests = quantities()
	}
	c.Env = pick(r, nil, []corev1.EnvVar{{Name: "X", Value: "y"}}, []corev1.EnvVar{{Name: "CONTAINER_NAME", Value: "other"}})
	c.VolumeMounts = pick(r, nil, nil, []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}, []corev1.VolumeMount{{Name: "podnetinfo", MountPath: "/elsewhere"}})
	return c
}

// theirAnswers returns the pods that the injector makes.
func theirAnswers(t *testing.T, injector string, keys []string, all []asked) []string {
	t.Helper()
	var in bytes.Buffer
	for _, a := range all {
		networks := map[string]map[string]string{}
		for _, d := range a.networks {
			networks[d.Namespace+"/"+d.Name] = d.Annotations
		}
		question := map[string]any{"Switches": a.switches, "Networks": networks, "Review": admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: podRequest(t, a.pod),
		}}
		if err := json.NewEncoder(&in).Encode(question); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), injector, "-network-resource-name-keys="+strings.Join(keys, ","))
	var complaints bytes.Buffer
	cmd.Stdin, cmd.Stderr = &in, &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the injector: %v: %s", err, complaints.Bytes())
	}
	var pods []string
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var answer struct {
			Status int
			Body   string
		}
		if err := dec.Decode(&answer); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var review admissionv1.AdmissionReview
		if err := json.Unmarshal([]byte(answer.Body), &review); err != nil || answer.Status != 200 || review.Response == nil || !review.Response.Allowed {
			t.Fatalf("the injector answers %d %s", answer.Status, answer.Body)
		}
		pods = append(pods, patched(t, all[len(pods)].pod, review.Response.Patch))
	}
	if len(pods) != len(all) {
		t.Fatalf("the injector answered %d of %d", len(pods), len(all))
	}
	return pods
}

// ourAnswer returns the pod that we make, less what is meant to differ.
func ourAnswer(t *testing.T, keys []string, a asked) string {
	t.Helper()
	c := newCluster(a.networks...)
	c.keys = keys
	options, err := inject.Options{}.With(a.switches)
	if err != nil {
		t.Fatal(err)
	}
	r := c.reviewer()
	r.Options = func() inject.Options { return options }
	resp := r.Mutate(t.Context(), podRequest(t, a.pod))
	if !resp.Allowed {
		t.Fatalf("%+v", resp.Result)
	}
	var pod corev1.Pod
	if err := json.Unmarshal([]byte(patched(t, a.pod, resp.Patch)), &pod); err != nil {
		t.Fatal(err)
	}
	if _, injected := pod.Annotations[inject.InjectedAnnotation]; !injected && !mounted(&pod) {
		delete(pod.Annotations, "by")
	}
	delete(pod.Annotations, inject.InjectedAnnotation)
	out, _ := json.Marshal(pod)
	return string(out)
}

// mounted reports whether the pod was found to need a resource.
func mounted(p *corev1.Pod) bool {
	for _, m := range p.Spec.Containers[0].VolumeMounts {
		if m.Name == "podnetinfo" && m.MountPath == "/etc/podnetinfo" {
			return true
		}
	}
	return false
}

func podRequest(t *testing.T, p *corev1.Pod) *admissionv1.AdmissionRequest {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	req := &admissionv1.AdmissionRequest{UID: "u", Namespace: p.Namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw}}
	req.Kind = metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	return req
}

// patched is the pod as the API server keeps it: patched by a library that knows
// nothing of either injector, decoded, and written again.
func patched(t *testing.T, p *corev1.Pod, patch []byte) string {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(patch) > 0 && string(patch) != "null" {
		ops, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = ops.Apply(raw); err != nil {
			t.Fatalf("apply %s: %v", patch, err)
		}
	}
	var out corev1.Pod
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	// The injector has the files of huge pages in the order of a Go map.
	for _, v := range out.Spec.Volumes {
		if v.DownwardAPI != nil {
			slices.SortFunc(v.DownwardAPI.Items, func(a, b corev1.DownwardAPIVolumeFile) int { return strings.Compare(a.Path, b.Path) })
		}
	}
	text, _ := json.Marshal(out)
	return string(text)
}
