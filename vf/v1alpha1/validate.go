package v1alpha1

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// The limits of fields.
const (
	lastPriority = 99
	maxVFs       = 65535 // sriov_numvfs has 16 bits (PCI Express, SR-IOV capability)
	minMTU       = 68    // RFC 791
	maxMTU       = 65535
)

// Validate refuses a policy that Policy could not translate. What depends on the
// node, such as how many VFs a NIC can have, is refused there. The error is a
// *refusal.Refusal.
func Validate(p *VFPolicy) error {
	_, err := Policy(p)
	return err
}

// Policy translates p, defaults applied; errors are those of Validate. Whether
// the policy is for a node is not looked at, see Selects.
func Policy(p *VFPolicy) (vf.Policy, error) {
	t := translation{object: fmt.Sprintf("VFPolicy %q", p.Name)}
	s := p.Spec
	q := vf.Policy{
		Name: p.Name, Priority: lastPriority, NumVFs: s.NumVFs, CreateVFs: s.CreateVFs, MTU: s.MTU, Autoprobe: s.Autoprobe,
		AllowPrimary: s.AllowPrimary, PFLink: s.PFLink,
	}
	if s.Priority != nil {
		q.Priority = *s.Priority
	}
	t.within("priority", q.Priority, 0, lastPriority)
	t.within("numVFs", s.NumVFs, 0, maxVFs)
	if s.CreateVFs != 0 {
		t.within("createVFs", s.CreateVFs, max(s.NumVFs, 1), maxVFs)
	}
	if s.MTU != 0 {
		t.within("mtu", s.MTU, minMTU, maxMTU)
	}
	q.NICs = t.nics(s)
	q.Groups = t.groups(s)
	return q, t.err
}

// Selects reports whether the policy is for a node with these labels.
func (p *VFPolicy) Selects(labels map[string]string) bool {
	for k, v := range p.Spec.NodeSelector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// translation keeps the first refusal.
type translation struct {
	object string
	err    error
}

func (t *translation) refuse(field string, value any, allowed string) {
	if t.err == nil {
		t.err = refusal.New(t.object, "spec."+field, value, allowed)
	}
}

func (t *translation) within(field string, v, low, high int) {
	if v < low || v > high {
		t.refuse(field, v, fmt.Sprintf("%d..%d", low, high))
	}
}

var hexForm = regexp.MustCompile(`^[0-9A-Fa-f]{4}$`)

func (t *translation) nics(s VFPolicySpec) vf.NICs {
	sel := s.NICSelector
	if len(sel.Vendors)+len(sel.Devices)+len(sel.PFNames)+len(sel.RootDevices) == 0 {
		t.refuse("nicSelector", "{}", "at least one of vendors, devices, pfNames, rootDevices")
	}
	return vf.NICs{
		Vendors: t.ids("vendors", sel.Vendors), Devices: t.ids("devices", sel.Devices),
		PFNames: t.functions("pfNames", sel.PFNames, s.NumVFs), RootDevices: t.functions("rootDevices", sel.RootDevices, s.NumVFs),
	}
}

func (t *translation) ids(field string, list []string) (out []string) {
	for i, id := range list {
		if !hexForm.MatchString(id) {
			t.refuse(fmt.Sprintf("nicSelector.%s[%d]", field, i), id, "a PCI id of four hexadecimal digits, without 0x")
		}
		out = append(out, strings.ToLower(id))
	}
	return out
}

func (t *translation) functions(field string, list []string, numVFs int) (out []vf.Functions) {
	for i, text := range list {
		at := fmt.Sprintf("nicSelector.%s[%d]", field, i)
		f, err := vf.ParseFunctions(text)
		if err != nil {
			t.refuse(at, text, vf.FunctionsForm)
			continue
		}
		if field == "rootDevices" {
			a, err := vf.ParseAddr(f.PF)
			if err != nil {
				t.refuse(at, text, "a PCI address dddd:bb:dd.f, with or without #i,j-k")
				continue
			}
			f.PF = a.String()
		}
		t.below(at, text, f.Ranges, numVFs)
		out = append(out, f)
	}
	return out
}

// below refuses ranges of VFs that there will never be.
func (t *translation) below(field, text string, r vf.Ranges, numVFs int) {
	if numVFs > 0 && r.Last() >= numVFs {
		t.refuse(field, text, fmt.Sprintf("VF numbers 0..%d, numVFs being %d", numVFs-1, numVFs))
	}
}

// groups are the ranges in their order, and the rest behind them.
func (t *translation) groups(s VFPolicySpec) []vf.Group {
	var out []vf.Group
	rest := t.group("", s.Driver, s.ResourceName, s)
	for i, r := range s.VFs {
		at := fmt.Sprintf("vfs[%d].", i)
		ranges, err := vf.ParseRanges(r.Range)
		if err != nil || r.Range == "" {
			t.refuse(at+"range", r.Range, vf.RangesForm)
			continue
		}
		t.below(at+"range", r.Range, ranges, s.NumVFs)
		g := rest
		if r.Driver != "" || r.ResourceName != "" {
			g = t.group(at, or(r.Driver, s.Driver), or(r.ResourceName, s.ResourceName), s)
		}
		g.VFs = ranges
		t.disjoint(at+"range", r.Range, out, ranges)
		out = append(out, g)
	}
	return append(out, rest)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (t *translation) disjoint(field, text string, before []vf.Group, ranges vf.Ranges) {
	for i, g := range before {
		for _, x := range g.VFs {
			if slices.ContainsFunc(ranges, func(y vf.Range) bool { return x.First <= y.Last && y.First <= x.Last }) {
				t.refuse(field, text, fmt.Sprintf("VFs that vfs[%d] (%s) has not", i, g.VFs))
			}
		}
	}
}

func (t *translation) group(at, driver, resource string, s VFPolicySpec) vf.Group {
	driver = or(driver, vf.Kernel)
	if driver != vf.Kernel && driver != vf.VFIO {
		t.refuse(at+"driver", driver, vf.Kernel+", "+vf.VFIO)
	}
	return vf.Group{
		Driver: driver, Resource: t.resource(at+"resourceName", resource), ExcludeTopology: s.ExcludeTopology, VhostNet: s.NeedVhostNet,
	}
}

// Extended resource names as the kubelet takes them (Kubernetes documentation,
// "Extended resources").
var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)
	prefixForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// maxPrefix leaves room for "requests." before the name in quotas.
const maxPrefix = 253 - len("requests.")

func (t *translation) resource(field, name string) string {
	if name == "" {
		return ""
	}
	prefix, rest, split := strings.Cut(name, "/")
	if !split {
		prefix, rest = DefaultPrefix, name
	}
	if !nameForm.MatchString(rest) || !prefixForm.MatchString(prefix) || len(prefix) > maxPrefix ||
		strings.HasPrefix(prefix, "requests.") || strings.HasSuffix(prefix, "kubernetes.io") { // "mykubernetes.io/" too: IsPrefixedNativeResource
		t.refuse(field, name, "name or prefix/name: 1 to 63 letters, digits, - and _, a letter or digit at both ends; the prefix a lower-case DNS name outside kubernetes.io")
	}
	return prefix + "/" + rest
}
