package validate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// policy is one that wants VFs of eth0 on nodes of zone x.
func policy(t *testing.T, name, spec string) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte("{apiVersion: tendril.dev/v1alpha1, kind: VFPolicy, metadata: {name: " + name + "}, spec: {nodeSelector: {zone: x}, nicSelector: {pfNames: [eth0]}, " + spec + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// node has four VFs of eth0, made by Tendril.
func node(name, zone string, holders map[string]string) validate.VFNode {
	pf := vfv1alpha1.PFState{Address: "0000:01:00.0", Name: "eth0", TotalVFs: 8, NumVFs: 4, MadeByTendril: true}
	for i := range pf.NumVFs {
		pf.VFs = append(pf.VFs, vfv1alpha1.VFState{Index: i, Address: fmt.Sprintf("0000:01:10.%d", i), Driver: "igbvf"})
	}
	n := validate.VFNode{Name: name, Labels: map[string]string{"zone": zone}, State: &vfv1alpha1.NodeVFStateStatus{PFs: []vfv1alpha1.PFState{pf}}}
	if holders != nil {
		n.Holder = func(address string) string { return holders[address] }
	}
	return n
}

// TestVFPolicyInUse: what a change takes from pods is said with node, VF and pod;
// what pods do not see is not.
func TestVFPolicyInUse(t *testing.T) {
	const four = "numVFs: 4, resourceName: a"
	held := map[string]string{"0000:01:10.3": "pod blue/web"}
	for what, tt := range map[string]struct {
		old, spec string
		node      validate.VFNode
		want      []string // words of each finding
	}{
		"the same":                    {four, four, node("n1", "x", held), nil},
		"fewer, pod has one":          {four, "numVFs: 2, resourceName: a", node("n1", "x", held), []string{"VF 3 of pod blue/web of PF eth0 on node n1 leave tendril.dev/a"}},
		"fewer, pod has none of them": {four, "numVFs: 2, resourceName: a", node("n1", "x", map[string]string{"0000:01:10.0": "pod blue/web"}), nil},
		"fewer, nobody knows":         {four, "numVFs: 2, resourceName: a", node("n1", "x", nil), []string{"VF 2, VF 3 of PF eth0 on node n1"}},
		"another resource":            {four, "numVFs: 4, resourceName: b", node("n1", "x", held), []string{"VF 3 of pod blue/web"}},
		"another driver": {four, "numVFs: 4, resourceName: a, driver: vfio-pci", node("n1", "x", held),
			[]string{"PF eth0 (0000:01:00.0) VF 3: bind driver vfio-pci\" is not allowed; allowed: on node n1 \"igbvf\" while it is used by pod blue/web"}},
		"more than there are":    {four, "numVFs: 6, resourceName: a", node("n1", "x", held), []string{"create 8 VFs\" is not allowed; allowed: on node n1 0..4 while VF 3 (0000:01:10.3) is used by pod blue/web"}},
		"more, and nobody knows": {four, "numVFs: 6, resourceName: a", node("n1", "x", nil), []string{"kubectl tendril lint --cluster names it"}},
		"gone":                   {four, "", node("n1", "x", held), []string{"VF 3 of pod blue/web"}},
		"gone, of others":        {four, "", node("n1", "y", held), nil},
		"a file over what is":    {"", "numVFs: 2, resourceName: a", node("n1", "x", held), []string{"VF 3 of pod blue/web"}},
	} {
		cluster := &validate.VFs{Nodes: []validate.VFNode{tt.node}}
		var present vfv1alpha1.VFPolicy
		if err := json.Unmarshal(policy(t, "p", four), &present); err != nil {
			t.Fatal(err)
		}
		cluster.Policies = append(cluster.Policies, &present)
		rules := validate.Rules{Facts: validate.Facts{VFs: func() *validate.VFs { return cluster }}, Checks: validate.Domains()}
		var old []byte
		if tt.old != "" {
			old = policy(t, "p", tt.old)
		}
		var found []validate.Finding
		if tt.spec == "" {
			found = rules.Gone(validate.VFPolicyKind, old)
		} else {
			found = rules.Object(validate.VFPolicyKind, "", old, policy(t, "p", tt.spec))
		}
		if len(found) != len(tt.want) {
			t.Errorf("%s: %v, want %q", what, found, tt.want)
			continue
		}
		for i, f := range found {
			if f.Code != validate.VFPolicyInUse || f.Level != validate.Warn || !strings.Contains(f.String(), tt.want[i]) {
				t.Errorf("%s: %s %s, want %q", what, f.Level, f, tt.want[i])
			}
		}
		wantWhole(t, what, found)
	}
}

// TestVFPolicyOfManyNodes: five are named, the others counted.
func TestVFPolicyOfManyNodes(t *testing.T) {
	cluster := &validate.VFs{}
	for i := range 7 {
		cluster.Nodes = append(cluster.Nodes, node(fmt.Sprintf("n%d", i), "x", nil))
	}
	rules := validate.Rules{Facts: validate.Facts{VFs: func() *validate.VFs { return cluster }}, Checks: validate.Domains()}
	found := rules.Gone(validate.VFPolicyKind, policy(t, "p", "numVFs: 4, resourceName: a"))
	if len(found) != 6 || !strings.Contains(found[5].String(), "VFs of 2 more nodes") {
		t.Errorf("%v", found)
	}
}

// TestRefusedPolicyIsNotPlanned: one denial is enough.
func TestRefusedPolicyIsNotPlanned(t *testing.T) {
	cluster := &validate.VFs{Nodes: []validate.VFNode{node("n1", "x", nil)}}
	rules := validate.Rules{Facts: validate.Facts{VFs: func() *validate.VFs { return cluster }}, Checks: validate.Domains()}
	found := rules.Object(validate.VFPolicyKind, "", policy(t, "p", "numVFs: 4, resourceName: a"), policy(t, "p", "numVFs: -1"))
	if diff := cmp.Diff([]string{"deny R001 spec.numVFs"}, brief(found)); diff != "" {
		t.Error(diff)
	}
	if found := rules.Gone(validate.NetworkKind, nil); len(found) != 0 {
		t.Errorf("%v", found)
	}
}
