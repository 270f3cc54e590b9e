package validate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/vf"
	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
)

// VFPolicyKind is the kind of VF policies.
var VFPolicyKind = schema.GroupKind{Group: "tendril.dev", Kind: "VFPolicy"}

// VFs are the VFs of a cluster and the policies for them.
type VFs struct {
	Policies []*vfv1alpha1.VFPolicy
	Nodes    []VFNode
}

// VFNode is one node as its daemon reports it.
type VFNode struct {
	Name   string
	Labels map[string]string
	State  *vfv1alpha1.NodeVFStateStatus
	// Holder names the pod that has a VF, by PCI address, "" for none; nil when
	// nobody can tell.
	Holder func(address string) string
}

// checkVFPolicy judges by the validator that the node agent uses. What depends on
// the NIC is judged on the node. Without object it is a deletion.
func checkVFPolicy(old, object []byte, f Facts) []Finding {
	var found []Finding
	if len(object) > 0 {
		found = vfPolicy(object)
	}
	if len(old) > 0 && len(object) > 0 {
		found = Ratchet(vfPolicy(old), found)
	}
	if f.VFs == nil || len(Denied(found)) > 0 {
		return found
	}
	return append(found, vfsInUse(old, object, f.VFs())...)
}

func vfPolicy(object []byte) []Finding {
	var p vfv1alpha1.VFPolicy
	if err := json.Unmarshal(object, &p); err != nil {
		return unreadable(VFPolicy, VFPolicyKind.Kind, err)
	}
	return Refused(VFPolicy, objectName(VFPolicyKind.Kind, "", p.Name), vfv1alpha1.Validate(&p))
}

// mostNodes is how many nodes one change names: warnings are for people.
const mostNodes = 5

// vfsInUse says which VFs that pods have, or may have, a change would take away or
// bind anew. It denies nothing: the daemon waits for the pods (invariant 6 of the
// design).
func vfsInUse(old, object []byte, all *VFs) []Finding {
	before, after := policyOf(old), policyOf(object)
	name := cmp.Or(after, before, &vfv1alpha1.VFPolicy{}).Name
	l := &list{object: objectName(VFPolicyKind.Kind, "", name)}
	var rest []*vfv1alpha1.VFPolicy
	for _, p := range all.Policies {
		if p.Name != name {
			rest = append(rest, p)
		} else if before == nil {
			before = p // what a file is to take the place of
		}
	}
	nodes := 0
	for _, n := range all.Nodes {
		was, is := n.policies(rest, before), n.policies(rest, after)
		found := n.changes(l.object, was, is)
		if len(found) == 0 {
			continue
		}
		if nodes++; nodes <= mostNodes {
			l.all = append(l.all, found...)
		}
	}
	if nodes > mostNodes {
		l.add(VFPolicyInUse, Warn, "spec", fmt.Sprintf("VFs of %d more nodes", nodes-mostNodes), "a change that leaves VFs of pods alone")
	}
	return l.all
}

// policyOf is nil for a policy that there is not.
func policyOf(raw []byte) *vfv1alpha1.VFPolicy {
	var p vfv1alpha1.VFPolicy
	if len(raw) == 0 || json.Unmarshal(raw, &p) != nil {
		return nil
	}
	return &p
}

// policies are those for the node, as values.
func (n VFNode) policies(rest []*vfv1alpha1.VFPolicy, changed *vfv1alpha1.VFPolicy) []vf.Policy {
	var out []vf.Policy
	for _, p := range append(slices.Clone(rest), changed) {
		if p == nil || !p.Selects(n.Labels) {
			continue
		}
		if q, err := vfv1alpha1.Policy(p); err == nil {
			out = append(out, q)
		}
	}
	return out
}

// changes are what the node's pods would see of other policies.
func (n VFNode) changes(object string, was, is []vf.Policy) []Finding {
	l := &list{object: object}
	o, addresses := n.observed()
	before, after := vf.Assign(o.Snapshot, was, nil), vf.Assign(o.Snapshot, is, nil)
	for _, pf := range o.Snapshot.PFs {
		n.leaving(l, pf, addresses, before, after)
	}
	inUse := func(a vf.Addr) string { return n.user(a, before, o.Snapshot) }
	known := map[string]bool{}
	for _, s := range vf.Plan(o, was, inUse) {
		known[s.String()] = true
	}
	for _, s := range vf.Plan(o, is, inUse) {
		if s.Waits() && (s.Op == vf.Create || s.Op == vf.Bind) && !known[s.String()] {
			l.add(VFPolicyInUse, Warn, "spec", s.String(), "on node "+n.Name+" "+unwrap(s.Blocked).Allowed)
		}
	}
	return l.all
}

// vfKey is one VF of one node.
type vfKey struct {
	pf    vf.Addr
	index int
}

// observed is what the node reports, as a plan takes it. MTU and the host's own
// use are not in a report: steps about them are not looked at.
func (n VFNode) observed() (vf.Observed, map[vfKey]vf.Addr) {
	s := &vf.Snapshot{Generation: 1}
	o := vf.Observed{Snapshot: s, Made: map[vf.Addr]bool{}}
	addresses := map[vfKey]vf.Addr{}
	for _, p := range n.State.PFs {
		pf, err := vf.ParseAddr(p.Address)
		if err != nil {
			continue
		}
		o.Made[pf] = p.MadeByTendril
		s.PFs = append(s.PFs, vf.PF{Addr: pf, Netdev: p.Name, AltNames: p.AltNames, Vendor: p.Vendor, Device: p.Device, Driver: p.Driver,
			NUMANode: p.NUMANode, TotalVFs: p.TotalVFs, NumVFs: p.NumVFs, AdminUp: true})
		for _, v := range p.VFs {
			if a, err := vf.ParseAddr(v.Address); err == nil {
				addresses[vfKey{pf, v.Index}] = a
				s.VFs = append(s.VFs, vf.VF{Addr: a, PF: pf, Index: v.Index, Driver: v.Driver})
			}
		}
	}
	slices.SortFunc(s.PFs, func(a, b vf.PF) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.VFs, func(a, b vf.VF) int { return a.Addr.Compare(b.Addr) })
	return o, addresses
}

// whoever is who has a VF when nobody can tell.
const whoever = "whichever pod has it (kubectl tendril lint --cluster names it)"

// user names who has a VF. Only VFs that a resource offers can be with a pod.
func (n VFNode) user(a vf.Addr, before []vf.Assignment, s *vf.Snapshot) string {
	if n.Holder != nil {
		return n.Holder(a.String())
	}
	for _, v := range s.VFs {
		if v.Addr == a && resourceOf(before, vfKey{v.PF, v.Index}) != "" {
			return whoever
		}
	}
	return ""
}

func resourceOf(all []vf.Assignment, v vfKey) string {
	for _, a := range all {
		if a.PF == v.pf && a.Index == v.index {
			return a.Resource
		}
	}
	return ""
}

// leaving finds VFs of one PF that leave their resource while somebody has them.
func (n VFNode) leaving(l *list, pf vf.PF, addresses map[vfKey]vf.Addr, before, after []vf.Assignment) {
	byResource := map[string][]string{}
	var resources []string
	for _, a := range before {
		key := vfKey{a.PF, a.Index}
		addr, exists := addresses[key]
		if a.PF != pf.Addr || a.Resource == "" || !exists || resourceOf(after, key) == a.Resource {
			continue
		}
		text := fmt.Sprintf("VF %d", a.Index)
		if n.Holder != nil {
			pod := n.Holder(addr.String())
			if pod == "" {
				continue
			}
			text += " of " + pod
		}
		if byResource[a.Resource] == nil {
			resources = append(resources, a.Resource)
		}
		byResource[a.Resource] = append(byResource[a.Resource], text)
	}
	for _, r := range resources {
		allowed := "VFs that no pod has; pods keep theirs until they end"
		if n.Holder == nil {
			allowed += " (kubectl tendril lint --cluster names them)"
		}
		l.add(VFPolicyInUse, Warn, "spec", fmt.Sprintf("%s of PF %s on node %s leave %s", strings.Join(byResource[r], ", "), pf.Label(), n.Name, r), allowed)
	}
}
