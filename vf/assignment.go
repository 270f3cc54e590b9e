package vf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Assignment is what one VF of one PF shall be, and because of which policy. The
// VF need not exist yet.
type Assignment struct {
	PF     Addr
	Index  int
	Policy string
	MTU    int
	PFLink bool
	Group
}

// Assign gives each VF to at most one policy. A policy has VFs 0..NumVFs-1 of
// the PFs that it selects, less those that its NICs' ranges leave out, less those
// that a stronger policy has. The result is sorted by PF and index. A PF that
// pf refuses (see Plan) gets none; nil refuses no PF.
func Assign(snap *Snapshot, policies []Policy, refused func(PF, Policy) bool) []Assignment {
	var out []Assignment
	policies = sorted(policies)
	for _, p := range snap.PFs {
		out = append(out, assign(p, policies, refused)...)
	}
	slices.SortStableFunc(out, func(a, b Assignment) int { return a.PF.Compare(b.PF) })
	return out
}

// assign is Assign for one PF and policies that are sorted.
func assign(p PF, policies []Policy, refused func(PF, Policy) bool) []Assignment {
	var out []Assignment
	taken := map[int]bool{}
	for _, q := range policies {
		if !q.Selects(p) || refused != nil && refused(p, q) {
			continue
		}
		in, _ := q.NICs.match(p)
		for i := range q.count(p) {
			if g, ok := q.group(i); ok && in(i) && !taken[i] {
				taken[i] = true
				out = append(out, Assignment{PF: p.Addr, Index: i, Policy: q.Name, MTU: q.MTU, PFLink: q.PFLink, Group: g})
			}
		}
	}
	slices.SortFunc(out, func(a, b Assignment) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

// count is how many VFs of p the policy reaches.
func (q Policy) count(p PF) int {
	if q.NumVFs > 0 {
		return min(q.NumVFs, p.TotalVFs)
	}
	return p.NumVFs
}

func (q Policy) group(i int) (Group, bool) {
	n := slices.IndexFunc(q.Groups, func(g Group) bool { return g.VFs.Has(i) })
	if n < 0 {
		return Group{}, false
	}
	return q.Groups[n], true
}

// Unfit says why v must not be given to a pod now, as far as the assignment goes,
// and "" if it may: its driver is not the one wanted, or its PF has no link and
// the policy minds.
func (a Assignment) Unfit(v VF, p PF) string {
	switch {
	case !a.driven(v.Driver):
		return fmt.Sprintf("its driver is %q, policy %s wants %s", v.Driver, a.Policy, a.Driver)
	case a.PFLink && !p.LinkUp:
		return fmt.Sprintf("PF %s has no link", p.Label())
	}
	return ""
}

// driven reports whether a VF with that driver has the one wanted.
func (a Assignment) driven(driver string) bool {
	if a.Driver == Kernel {
		return driver != "" && !UserspaceDriver(driver)
	}
	return driver == a.Driver
}

// UserspaceDriver reports whether VFs on this driver are used without a network
// device. The variants of vfio-pci are named <vendor>_vfio_pci or <vendor>-vfio-pci.
func UserspaceDriver(driver string) bool {
	driver = strings.ReplaceAll(driver, "_", "-")
	return driver == "uio-pci-generic" || driver == "igb-uio" || driver == VFIO || strings.HasSuffix(driver, "-"+VFIO)
}

// Selection is one extended resource and the VFs that policies put into it.
type Selection struct {
	// Resource is "prefix/name".
	Resource string
	// VFs exist, are sorted by address and are in one Selection only.
	VFs []Addr
	// ExcludeTopology holds when any group of the resource says so.
	ExcludeTopology bool
	// VhostNet are those of VFs that come with /dev/vhost-net and /dev/net/tun.
	VhostNet []Addr
	// Policies that feed the resource, by name.
	Policies []string
}

// Select makes the pools of the policies: every resource that any group names,
// also one without a VF yet, sorted by name. VFs beyond NumVFs of their policy
// are in none, which is how a subset of the VFs is offered.
func Select(snap *Snapshot, policies []Policy, refused func(PF, Policy) bool) []Selection {
	pools := map[string]*Selection{}
	for _, q := range policies {
		for _, g := range q.Groups {
			if g.Resource == "" {
				continue
			}
			s := pools[g.Resource]
			if s == nil {
				s = &Selection{Resource: g.Resource}
				pools[g.Resource] = s
			}
			s.ExcludeTopology = s.ExcludeTopology || g.ExcludeTopology
			if !slices.Contains(s.Policies, q.Name) {
				s.Policies = append(s.Policies, q.Name)
			}
		}
	}
	at := places(snap)
	for _, a := range Assign(snap, policies, refused) {
		v, ok := at[place{a.PF, a.Index}]
		if s := pools[a.Resource]; ok && s != nil {
			s.VFs = append(s.VFs, v.Addr)
			if a.VhostNet {
				s.VhostNet = append(s.VhostNet, v.Addr)
			}
		}
	}
	out := make([]Selection, 0, len(pools))
	for _, s := range pools {
		slices.SortFunc(s.VFs, Addr.Compare)
		slices.SortFunc(s.VhostNet, Addr.Compare)
		slices.Sort(s.Policies)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Selection) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// place is where a VF is, whether it exists or not.
type place struct {
	pf    Addr
	index int
}

func places(snap *Snapshot) map[place]VF {
	m := make(map[place]VF, len(snap.VFs))
	for _, v := range snap.VFs {
		m[place{v.PF, v.Index}] = v
	}
	return m
}
