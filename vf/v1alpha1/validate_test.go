package v1alpha1_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

func parse(t testing.TB, spec string) *v1alpha1.VFPolicy {
	t.Helper()
	p := &v1alpha1.VFPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicy(t *testing.T) {
	got, err := v1alpha1.Policy(parse(t, `
nicSelector: {vendors: ["8086"], devices: [10C9], pfNames: ["sriov0#0-5", enp1s0f0], rootDevices: ["0000:01:00.0#0,2"]}
numVFs: 6
mtu: 9000
resourceName: fast
vfs:
- {range: "0-1", driver: vfio-pci, resourceName: example.com/dpdk}
- {range: "2", driver: vfio-pci}
needVhostNet: true
`))
	if err != nil {
		t.Fatal(err)
	}
	r := func(a, b int) vf.Ranges { return vf.Ranges{{First: a, Last: b}} }
	want := vf.Policy{
		Name: "p", Priority: 99, NumVFs: 6, MTU: 9000,
		NICs: vf.NICs{
			Vendors: []string{"8086"}, Devices: []string{"10c9"},
			PFNames:     []vf.Functions{{PF: "sriov0", Ranges: r(0, 5)}, {PF: "enp1s0f0"}},
			RootDevices: []vf.Functions{{PF: "0000:01:00.0", Ranges: vf.Ranges{{First: 0, Last: 0}, {First: 2, Last: 2}}}},
		},
		Groups: []vf.Group{
			{VFs: r(0, 1), Driver: vf.VFIO, Resource: "example.com/dpdk", VhostNet: true},
			{VFs: r(2, 2), Driver: vf.VFIO, Resource: "tendril.dev/fast", VhostNet: true},
			{Driver: vf.Kernel, Resource: "tendril.dev/fast", VhostNet: true},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// refusals are specs that are refused, with the field that must be named.
var refusals = map[string]string{
	`nicSelector: {}`:                                                                    "spec.nicSelector",
	`{nicSelector: {vendors: ["0x8086"]}}`:                                               "spec.nicSelector.vendors[0]",
	`{nicSelector: {pfNames: ["eth0", "eth1#3-1"]}}`:                                     "spec.nicSelector.pfNames[1]",
	`{nicSelector: {pfNames: ["eth0#0-7"]}, numVFs: 7}`:                                  "spec.nicSelector.pfNames[0]",
	`{nicSelector: {rootDevices: ["eth0"]}}`:                                             "spec.nicSelector.rootDevices[0]",
	`{nicSelector: {rootDevices: ["0000:01:00.9"]}}`:                                     "spec.nicSelector.rootDevices[0]",
	`{nicSelector: {pfNames: [e]}, priority: 100}`:                                       "spec.priority",
	`{nicSelector: {pfNames: [e]}, numVFs: -1}`:                                          "spec.numVFs",
	`{nicSelector: {pfNames: [e]}, numVFs: 70000}`:                                       "spec.numVFs",
	`{nicSelector: {pfNames: [e]}, numVFs: 7, createVFs: 4}`:                             "spec.createVFs",
	`{nicSelector: {pfNames: [e]}, mtu: 20}`:                                             "spec.mtu",
	`{nicSelector: {pfNames: [e]}, driver: igb_uio}`:                                     "spec.driver",
	`{nicSelector: {pfNames: [e]}, resourceName: "a/b/c"}`:                               "spec.resourceName",
	`{nicSelector: {pfNames: [e]}, resourceName: "kubernetes.io/x"}`:                     "spec.resourceName",
	`{nicSelector: {pfNames: [e]}, resourceName: "mykubernetes.io/x"}`:                   "spec.resourceName",
	`{nicSelector: {pfNames: [e]}, resourceName: "-x"}`:                                  "spec.resourceName",
	`{nicSelector: {pfNames: [e]}, vfs: [{range: ""}]}`:                                  "spec.vfs[0].range",
	`{nicSelector: {pfNames: [e]}, vfs: [{range: "0-x"}]}`:                               "spec.vfs[0].range",
	`{nicSelector: {pfNames: [e]}, numVFs: 4, vfs: [{range: "2-4"}]}`:                    "spec.vfs[0].range",
	`{nicSelector: {pfNames: [e]}, vfs: [{range: "0-3"}, {range: "3"}]}`:                 "spec.vfs[1].range",
	`{nicSelector: {pfNames: [e]}, vfs: [{range: "0", driver: netdevice}]}`:              "spec.vfs[0].driver",
	`{nicSelector: {pfNames: [e]}, vfs: [{range: "0", resourceName: "requests.a.b/c"}]}`: "spec.vfs[0].resourceName",
}

func TestInvariant9RefusalsNameTheField(t *testing.T) {
	for spec, field := range refusals {
		err := v1alpha1.Validate(parse(t, spec))
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Field != field || r.Object != `VFPolicy "p"` || r.Allowed == "" {
			t.Errorf("%s: %v, want field %s", spec, err, field)
		}
	}
}

func TestSelects(t *testing.T) {
	p := parse(t, `{nicSelector: {pfNames: [e]}, nodeSelector: {a: "1", b: ""}}`)
	rows := []struct {
		labels map[string]string
		want   bool
	}{
		{map[string]string{"a": "1", "b": "", "c": "x"}, true}, {map[string]string{"a": "1"}, false},
		{map[string]string{"a": "2", "b": ""}, false}, {nil, false},
	}
	for _, r := range rows {
		if got := p.Selects(r.labels); got != r.want {
			t.Errorf("%v: %v", r.labels, got)
		}
	}
	if !parse(t, `{nicSelector: {pfNames: [e]}}`).Selects(nil) {
		t.Error("an empty selector selects every node")
	}
}

func TestDeepCopySharesNothing(t *testing.T) {
	p := parse(t, `{nicSelector: {pfNames: [e]}, nodeSelector: {a: "1"}, priority: 3, vfs: [{range: "0"}]}`)
	before, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := p.DeepCopyObject().(*v1alpha1.VFPolicy)
	c.Spec.NICSelector.PFNames[0], c.Spec.NodeSelector["a"], *c.Spec.Priority, c.Spec.VFs[0].Range = "x", "x", 9, "9"
	after, _ := yaml.Marshal(p)
	if d := cmp.Diff(string(before), string(after)); d != "" {
		t.Error(d)
	}
	if err := v1alpha1.AddToScheme(runtime.NewScheme()); err != nil {
		t.Error(err)
	}
}

// FuzzValidate: what is accepted translates to ranges and names that keep their
// promises.
func FuzzValidate(f *testing.F) {
	f.Add("sriov0#0-3", "0000:01:00.0", "0-1", "fast", 7, 0)
	f.Add("a", "", "1,2", "x.y/z", 0, 9000)
	f.Fuzz(func(t *testing.T, pf, root, ranges, resource string, n, mtu int) {
		p := &v1alpha1.VFPolicy{Spec: v1alpha1.VFPolicySpec{
			NICSelector: v1alpha1.NICSelector{PFNames: []string{pf}, RootDevices: []string{root}},
			NumVFs:      n, MTU: mtu, ResourceName: resource, VFs: []v1alpha1.VFRange{{Range: ranges}},
		}}
		q, err := v1alpha1.Policy(p)
		if (err == nil) != (v1alpha1.Validate(p) == nil) {
			t.Fatal("Policy and Validate disagree")
		}
		if err != nil {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Field == "" {
				t.Fatalf("no refusal: %v", err)
			}
			return
		}
		for _, g := range q.Groups {
			if g.Resource != "" && strings.Count(g.Resource, "/") != 1 {
				t.Errorf("resource %q", g.Resource)
			}
			if q.NumVFs > 0 && g.VFs.Last() >= q.NumVFs {
				t.Errorf("VFs %s of %d", g.VFs, q.NumVFs)
			}
		}
	})
}
