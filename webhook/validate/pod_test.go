package validate_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// networksOfPods are the definitions that the pods below ask for.
var networksOfPods = known{
	definition("plain", `{"type":"macvlan","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}`),
	definition("l2", `{"type":"macvlan"}`),
	definition("ipvlan", `{"type":"ipvlan","ipam":{"type":"static"}}`),
	definition("shared", `{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.5.0/24"}}`),
	definition("vf", `{"type":"sriov"}`, validate.ResourceAnnotation, "v.io/vf"),
	definition("dpdk", `{"type":"sriov"}`, validate.ResourceAnnotation, "v.io/dpdk"),
	definition("bond", `{"type":"bond"}`),
	definition("foreign", `{"type":"acme"}`),
	definition("ports", `{"plugins":[{"type":"acme"},{"type":"portmap","capabilities":{"portMappings":true}}]}`),
	definition("vrf", `{"plugins":[{"type":"macvlan","ipam":{"type":"static"}},{"type":"vrf","vrfname":"red"}]}`),
	definition("broken", `{`),
}

const onNetworks = "metadata.annotations[k8s.v1.cni.cncf.io/networks]"

func TestInvariant9PodRules(t *testing.T) {
	for _, tt := range []struct {
		networks string
		want     []string
	}{
		{"", nil},
		{"plain, plain, l2@eth1", nil},
		{`[{"name":"plain","ips":["10.0.0.7/24"],"mac":"02:00:00:00:00:01","interface":"x"}]`, nil},
		{"broken", nil}, // its own denial
		{"plain,", []string{"deny P001 " + onNetworks + "[1]"}},
		{`[{"name":"plain"},{}]`, []string{"deny P001 " + onNetworks + "[1].name"}},
		{`[{"name":"plain"`, []string{"deny P001 " + onNetworks}},
		{"gone", []string{"deny P002 " + onNetworks + "[0].name"}},
		{"red/plain", []string{"deny P002 " + onNetworks + "[0].namespace"}},
		{"global/gone", []string{"deny P002 " + onNetworks + "[0].name"}},
		{"plain@sixteen-bytes-xx", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"plain@a:b", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"plain@lo", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"plain@eth0", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"plain@x,l2@x", []string{"deny P003 " + onNetworks + "[1].interface"}},
		{"plain@net2,l2", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"plain@net1,l2@net3", nil},
		{`[{"name":"plain","mac":"03:00:00:00:00:01"}]`, []string{"deny P004 " + onNetworks + "[0].mac"}},
		{`[{"name":"plain","mac":"00:00:00:00:00:00"}]`, []string{"deny P004 " + onNetworks + "[0].mac"}},
		{`[{"name":"plain","mac":"x"}]`, []string{"deny P004 " + onNetworks + "[0].mac"}},
		{`[{"name":"plain","mac":"02:00:00:00:00:01"},{"name":"l2","mac":"02:00:00:00:00:01"}]`, []string{"deny P004 " + onNetworks + "[1].mac"}},
		{`[{"name":"plain","mac":"02:00:00:00:00:01"},{"name":"l2","mac":"02:00:00:00:00:01"},{"name":"bond"}]`, nil},
		{`[{"name":"plain","ips":["10.0.1.1"]}]`, []string{"deny P004 " + onNetworks + "[0].ips[0]"}},
		{`[{"name":"plain","ips":["x"]}]`, []string{"deny P004 " + onNetworks + "[0].ips[0]"}},
		{`[{"name":"shared","ips":["10.0.1.1"]}]`, []string{"warn P004 " + onNetworks + "[0].ips[0]"}},
		{`[{"name":"plain","ips":["10.0.0.7"]},{"name":"ipvlan","ips":["10.0.0.7/16"]}]`, []string{"deny P004 " + onNetworks + "[1].ips[0]"}},
		{`[{"name":"ipvlan","ips":["10.0.0.7/16"]},{"name":"vrf","ips":["10.0.0.7/16"]}]`, nil},
		{`[{"name":"ipvlan","mac":"02:00:00:00:00:01"}]`, []string{"deny P005 " + onNetworks + "[0].mac"}},
		{`[{"name":"l2","ips":["10.0.0.7"]}]`, []string{"deny P005 " + onNetworks + "[0].ips"}},
		{`[{"name":"foreign","ips":["10.0.0.7"]}]`, []string{"deny P005 " + onNetworks + "[0].ips"}},
		{`[{"name":"foreign","infiniband-guid":"02:00:00:00:00:00:00:01"}]`, []string{"deny P005 " + onNetworks + "[0].infiniband-guid"}},
		{`[{"name":"plain","bandwidth":{"ingressRate":5}}]`, []string{"deny P005 " + onNetworks + "[0].bandwidth"}},
		{`[{"name":"ports","portMappings":[{"hostPort":1,"containerPort":2}]}]`, nil},
		{`[{"name":"plain","default-route":["10.0.0.1"]},{"name":"shared","default-route":["10.0.5.1"]}]`, []string{"deny P006 " + onNetworks + "[1].default-route[0]"}},
		{`[{"name":"plain","default-route":["10.0.0.1","fd00::1"]}]`, nil},
		{`[{"name":"plain","cni-args":[]}]`, []string{"deny P009 " + onNetworks + "[0].cni-args"}},
		{`[{"name":"plain","ipam-claim-reference":"A"}]`, []string{"deny P009 " + onNetworks + "[0].ipam-claim-reference"}},
	} {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{validate.NetworksAnnotation: tt.networks}
		found := validate.Pod("Pod x", "blue", pod, validate.Facts{Networks: networksOfPods, Complete: true, Isolation: &validate.Isolation{Global: []string{"global"}}})
		want := tt.want
		if want == nil {
			want = []string{}
		}
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.networks, found, diff)
		}
		wantWhole(t, tt.networks, found)
	}
}

// TestDefaultNetwork: it is looked for where the meta-plugin looks, must be one,
// and may rename the interface that others must not take. Isolation holds for it
// as well.
func TestDefaultNetwork(t *testing.T) {
	system := definition("cbr", `{"type":"bridge"}`)
	system.Namespace = "kube-system"
	f := validate.Facts{Networks: append(known{system}, networksOfPods...), Complete: true, DefaultNamespace: "kube-system", Isolation: &validate.Isolation{Global: []string{"kube-system"}}}
	const field = "metadata.annotations[v1.multus-cni.io/default-network]"
	for _, tt := range []struct {
		first, networks string
		want            []string
	}{
		{"cbr", "", []string{}},
		{"blue/plain", "", []string{}},
		{"plain", "", []string{"deny P002 " + field + ".name"}},
		{"red/cbr", "", []string{"deny P002 " + field + ".namespace"}},
		{"gone", "", []string{"deny P002 " + field + ".name"}},
		{"plain,l2", "", []string{"deny P001 " + field}},
		{"blue/plain@up0", "l2@up0", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{"blue/plain@up0", "l2@eth0", []string{}},
	} {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{validate.DefaultNetworkAnnotation: tt.first, validate.NetworksAnnotation: tt.networks}
		found := validate.Pod("Pod x", "blue", pod, f)
		if diff := cmp.Diff(tt.want, brief(found)); diff != "" {
			t.Errorf("%s, %s: %v\n%s", tt.first, tt.networks, found, diff)
		}
	}
}

// TestInterfacesBesideTheNodesOwn: networks that the node gives to every pod take
// names and move those of the pod's.
func TestInterfacesBesideTheNodesOwn(t *testing.T) {
	for _, tt := range []struct {
		given    []int
		networks string
		want     []string
	}{
		{nil, "plain,l2@net1", []string{"deny P003 " + onNetworks + "[1].interface"}},
		{[]int{1}, "plain@net1", []string{"deny P003 " + onNetworks + "[0].interface"}},
		{[]int{1}, "plain,l2@net2", []string{"deny P003 " + onNetworks + "[1].interface"}},
		{[]int{1}, "plain@x,l2,shared@net2", []string{}}, // l2 is net3 here
		{[]int{0}, "plain@x,l2,shared@net2", []string{"deny P003 " + onNetworks + "[2].interface"}},
		{[]int{0, 1}, "plain@x,l2,shared@net2", []string{"warn P003 " + onNetworks + "[2].interface"}},
		{[]int{0, 2}, "plain@net2", []string{"warn P003 " + onNetworks + "[0].interface"}},
	} {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{validate.NetworksAnnotation: tt.networks}
		asked := ""
		found := validate.Pod("Pod x", "blue", pod, validate.Facts{Networks: networksOfPods, Complete: true, Given: func(ns string) []int { asked = ns; return tt.given }})
		if diff := cmp.Diff(tt.want, brief(found)); diff != "" || asked != "blue" {
			t.Errorf("%v, %s: asked of %q: %v\n%s", tt.given, tt.networks, asked, found, diff)
		}
		wantWhole(t, tt.networks, found)
	}
}

// TestPodResources are the rules about what the kubelet is asked for.
func TestPodResources(t *testing.T) {
	f := validate.Facts{Networks: networksOfPods, Complete: true, Userspace: map[string]bool{"v.io/dpdk": true}}
	for spec, want := range map[string][]string{
		`{annotations: vf, spec: {containers: [{name: c}]}}`:                                         {},
		`{annotations: "vf,vf", spec: {containers: [{name: c, resources: {limits: {v.io/vf: 2}}}]}}`: {},
		`{annotations: "vf,vf", spec: {initContainers: [{name: s, restartPolicy: Always, resources: {limits: {v.io/vf: 1}}}], containers: [{name: c, resources: {limits: {v.io/vf: 1}}}]}}`: {},
		`{annotations: "vf,vf", spec: {initContainers: [{name: s, resources: {limits: {v.io/vf: 1}}}], containers: [{name: c, resources: {limits: {v.io/vf: 1}}}]}}`:                        {"warn P007 spec.containers[].resources.limits[v.io/vf]"},
		`{annotations: "vf,vf", spec: {containers: [{name: c, resources: {limits: {v.io/vf: 1}}}]}}`:                                                                                        {"warn P007 spec.containers[].resources.limits[v.io/vf]"},
		`{annotations: vf, spec: {hostNetwork: true, containers: [{name: c}]}}`:                                                                                                             {"warn P006 spec.hostNetwork"},
		`{annotations: dpdk, spec: {containers: [{name: c, resources: {limits: {v.io/dpdk: 1}}}]}}`:                                                                                         {"warn P008 spec.containers[c].resources.limits[hugepages-*]", "warn P008 spec.containers[c].resources.limits[memory]", "warn P008 spec.containers[].resources"},
		`{annotations: dpdk, spec: {containers: [{name: c, resources: {limits: {v.io/dpdk: 1, cpu: 2, memory: 1Gi, hugepages-1Gi: 1Gi}}}]}}`:                                                {},
		`{annotations: dpdk, spec: {containers: [{name: c, resources: {limits: {v.io/dpdk: 1, cpu: 2, memory: 1Gi, hugepages-1Gi: 1Gi}, requests: {cpu: 1}}}]}}`:                            {"warn P008 spec.containers[].resources"},
	} {
		var in struct {
			Annotations string         `json:"annotations"`
			Spec        corev1.PodSpec `json:"spec"`
		}
		if err := yaml.UnmarshalStrict([]byte(spec), &in); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{Spec: in.Spec}
		pod.Annotations = map[string]string{validate.NetworksAnnotation: in.Annotations}
		found := validate.Pod("Pod x", "blue", pod, f)
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", spec, found, diff)
		}
		wantWhole(t, spec, found)
	}
}

func TestMultiNetworkPolicy(t *testing.T) {
	f := validate.Facts{Networks: networksOfPods, Complete: true, Userspace: map[string]bool{"v.io/dpdk": true}}
	const field = "metadata.annotations[k8s.v1.cni.cncf.io/policy-for]"
	for policy, want := range map[string][]string{
		`{policyFor: "plain, blue/l2"}`: {},
		`{policyFor: ""}`:               {"deny M001 " + field},
		`{policyFor: "a/b/c"}`:          {"deny M001 " + field + "[0]"},
		`{policyFor: gone}`:             {"warn M001 " + field + "[0]"},
		`{policyFor: dpdk}`:             {"warn M002 " + field + "[0]"},
		`{policyFor: plain, spec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]}}`: {},
		`{policyFor: plain, spec: {ingress: [{from: [{ipBlock: {cidr: x}}]}]}}`:                                                                   {"deny M001 spec.ingress[0].from[0].ipBlock.cidr"},
		`{policyFor: plain, spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}}`:                                      {"deny M001 spec.egress[0].to[0].ipBlock.except[0]"},
		`{policyFor: plain, spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/7]}}]}]}}`:                                       {"deny M001 spec.egress[0].to[0].ipBlock.except[0]"},
		`{policyFor: plain, spec: {ingress: [{ports: [{port: 80, endPort: 79}]}]}}`:                                                               {"deny M001 spec.ingress[0].ports[0].endPort"},
		`{policyFor: plain, spec: {ingress: [{ports: [{port: http, endPort: 79}]}]}}`:                                                             {"deny M001 spec.ingress[0].ports[0].endPort"},
		`{policyFor: plain, spec: {ingress: [{ports: [{endPort: 79}]}]}}`:                                                                         {"deny M001 spec.ingress[0].ports[0].endPort"},
	} {
		var in struct {
			PolicyFor string         `json:"policyFor"`
			Spec      map[string]any `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(policy), &in); err != nil {
			t.Fatal(err)
		}
		raw, err := yaml.Marshal(map[string]any{"metadata": map[string]any{"namespace": "blue", "name": "p", "annotations": map[string]string{validate.PolicyForAnnotation: in.PolicyFor}}, "spec": in.Spec})
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = yaml.YAMLToJSON(raw); err != nil {
			t.Fatal(err)
		}
		found := validate.MultiNetworkPolicy("blue", raw, f)
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", policy, found, diff)
		}
		wantWhole(t, policy, found)
	}
}

// TestLint: files are judged as if all of them were applied, offline.
func TestLint(t *testing.T) {
	const file = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: net}
spec: {config: '{"type":"ipvlan","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}'}
---
# nothing here
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: bad}
spec: {config: '{"type":"macvlan","mode":"l2"}'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {annotations: {k8s.v1.cni.cncf.io/networks: '[{"name":"net","mac":"02:00:00:00:00:01"},{"name":"elsewhere"}]'}}
    spec: {containers: [{name: c}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: other}
spec: {jobTemplate: {spec: {template: {metadata: {annotations: {k8s.v1.cni.cncf.io/networks: "a,"}}, spec: {containers: [{name: c}]}}}}}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {k8s.v1.cni.cncf.io/networks: net@lo}}, spec: {containers: [{name: c}]}}
  - {apiVersion: v1, kind: Service, metadata: {name: s}}
---
apiVersion: tendril.dev/v1alpha1
kind: VFPolicy
metadata: {name: policy}
spec: {priority: 500}
---
apiVersion: k8s.cni.cncf.io/v1beta1
kind: MultiNetworkPolicy
metadata: {name: of-the-namespace, annotations: {k8s.v1.cni.cncf.io/policy-for: net}}
spec: {podSelector: {}}
`
	objects, err := validate.Decode("all.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range validate.Lint(objects, "blue", validate.Rules{Checks: validate.Domains()}) {
		where, rest, _ := strings.Cut(f.String(), ": ")
		what, _, _ := strings.Cut(rest, ": field")
		got = append(got, where+"; "+what)
	}
	want := []string{
		`all.yaml, document 3; deny N006: NetworkAttachmentDefinition "blue/bad"`,
		`all.yaml, document 4; deny P005: Deployment "blue/web"`,
		`all.yaml, document 5; deny P001: CronJob "other/nightly"`,
		`all.yaml, document 6; deny P003: Pod "blue/p"`,
		`all.yaml, document 7; deny R001: VFPolicy "policy"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"x: [", "- a", "metadata: {}"} {
		if _, err := validate.Decode("f", []byte(bad)); err == nil || !strings.Contains(err.Error(), "read f") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestUpstreamPods: what the upstream projects document for pods (multus
// docs/how-to-use, the multi-net-spec, sriov-cni, ib-sriov-cni, bond-cni,
// whereabouts) has no findings at all.
func TestUpstreamPods(t *testing.T) {
	far := definition("macvlan-conf-3", `{"cniVersion":"0.3.0","type":"macvlan","master":"eth1"}`)
	far.Namespace = "testns1"
	f := validate.Facts{Complete: true, Networks: known{far,
		definition("macvlan-conf-1", `{"cniVersion":"0.3.0","type":"macvlan","master":"eth1","ipam":{"type":"host-local","subnet":"192.168.2.0/24"}}`),
		definition("macvlan-conf-2", ``),
		definition("sriov-net", `{"type":"sriov"}`, validate.ResourceAnnotation, "intel.com/sriov"),
		definition("sriov-net2", `{"type":"sriov"}`, validate.ResourceAnnotation, "intel.com/sriov"),
		definition("ips-mac", `{"cniVersion":"0.4.0","plugins":[{"type":"macvlan","capabilities":{"ips":true},"master":"eth1","ipam":{"type":"static"}},{"type":"tuning","capabilities":{"mac":true}}]}`),
		definition("static", `{"type":"macvlan","master":"eth1","ipam":{"type":"static"}}`),
		definition("ib", `{"type":"ib-sriov","capabilities":{"infinibandGUID":true}}`, validate.ResourceAnnotation, "mellanox.com/ib"),
		definition("bond-net1", `{"type":"bond","mode":"active-backup","links":[{"name":"net1"},{"name":"net2"}]}`),
		definition("whereabouts-conf", `{"type":"macvlan","ipam":{"type":"whereabouts","range":"192.168.2.225/28"}}`),
		definition("ports", `{"plugins":[{"type":"ptp"},{"type":"portmap","capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}`),
	}}
	for _, networks := range []string{
		"macvlan-conf-1, macvlan-conf-2",
		"testns1/macvlan-conf-3",
		"macvlan-conf-1@macvlan1",
		`[{"name":"macvlan-conf-1","namespace":"blue"}]`,
		`[{"name":"macvlan-conf-1","interface":"macvlan1"},{"name":"macvlan-conf-2"}]`,
		`[{"name":"macvlan-conf-1","default-route":["192.168.2.1"]}]`,
		`[{"name":"sriov-net","mac":"CA:FE:C0:FF:EE:00"}]`,
		`[{"name":"ips-mac","ips":["10.10.0.1/24","2001::1/64"],"mac":"c2:b0:57:49:47:f1"}]`,
		`[{"name":"static","ips":["10.1.1.11/24"],"cni-args":{"key":"value"}}]`,
		`[{"name":"ib","infiniband-guid":"c2:11:22:33:44:55:66:77"}]`,
		`[{"name":"sriov-net","interface":"net1"},{"name":"sriov-net2","interface":"net2"},{"name":"bond-net1","interface":"bond0"}]`,
		`[{"name":"whereabouts-conf","ipam-claim-reference":"vm-a"}]`,
		`[{"name":"ports","portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":2048,"ingressBurst":1600,"egressRate":4096,"egressBurst":1600}}]`,
	} {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{validate.NetworksAnnotation: networks}
		for _, found := range validate.Pod("Pod x", "blue", pod, f) {
			t.Errorf("%s: %s", networks, found)
		}
	}
}

func FuzzPod(f *testing.F) {
	f.Add("plain,l2@x", "cbr")
	f.Add(`[{"name":"plain","ips":["10.0.0.1/24"],"mac":"02:00:00:00:00:01","default-route":["::1"]}]`, `[{"name":"a"}]`)
	f.Fuzz(func(t *testing.T, networks, first string) {
		pod := &corev1.Pod{}
		pod.Annotations = map[string]string{validate.NetworksAnnotation: networks, validate.DefaultNetworkAnnotation: first}
		pod.Spec.Containers = []corev1.Container{{Name: "c"}}
		wantWhole(t, networks, validate.Pod("Pod x", "blue", pod, validate.Facts{Networks: networksOfPods, Complete: true, Userspace: map[string]bool{"v.io/dpdk": true}}))
	})
}

// TestLintOverWhatIsThere: a definition that the cluster has is judged as an
// update of it.
func TestLintOverWhatIsThere(t *testing.T) {
	there := definition("n", `{"type":"macvlan","master":"eth0"}`)
	objects, err := validate.Decode("file", []byte(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"n"},"spec":{"config":"{\"type\":\"macvlan\",\"master\":\"eth1\"}"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, pods := range []int{0, 3} {
		rules := validate.Rules{Facts: validate.Facts{Networks: known{there}, Complete: true, Attached: func(string, string) int { return pods }}}
		var said []string
		for _, f := range validate.Lint(objects, "blue", rules) {
			said = append(said, f.String())
		}
		if text := strings.Join(said, "\n"); strings.Contains(text, "N014") != (pods > 0) || pods > 0 && !strings.Contains(text, "3 pods that run keep") {
			t.Errorf("with %d pods: %q", pods, text)
		}
	}
}
