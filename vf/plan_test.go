package vf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/vftest"
)

var (
	pf0 = vf.MustAddr("0000:01:00.0")
	pf1 = vf.MustAddr("0000:02:00.0")
	vf2 = vf.MustAddr("0000:01:10.4") // VF 2 of pf0
)

// nic is sriov0 with n of 7 VFs.
func nic(n int) vftest.NIC {
	c := vftest.Igb()
	c.VFs, c.TotalVFs = n, 7
	return c
}

func on(names ...string) vf.NICs {
	var n vf.NICs
	for _, name := range names {
		f, err := vf.ParseFunctions(name)
		if err != nil {
			panic(err)
		}
		n.PFNames = append(n.PFNames, f)
	}
	return n
}

func group(driver, resource, vfs string) vf.Group {
	r, err := vf.ParseRanges(vfs)
	if err != nil {
		panic(err)
	}
	return vf.Group{Driver: driver, Resource: resource, VFs: r}
}

// fast wants 7 kernel VFs.
func fast() vf.Policy {
	return vf.Policy{Name: "fast", NICs: on("sriov0"), NumVFs: 7, Groups: []vf.Group{group(vf.Kernel, "x/fast", "")}}
}

func observed(m *vftest.Machine, made ...vf.Addr) vf.Observed {
	claims, _ := m.Claims(nil)
	o := vf.Observed{Snapshot: m.Snapshot(), Claims: claims, Made: map[vf.Addr]bool{}}
	for _, a := range made {
		o.Made[a] = true
	}
	return o
}

func printed(t *testing.T, steps []vf.Step) string {
	t.Helper()
	var b strings.Builder
	if err := vf.Print(&b, steps); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPlanPrints compares whole plans with the files in testdata, each of which
// says in its head what is planned.
func TestPlanPrints(t *testing.T) {
	yes, no := true, false
	down := nic(0)
	tenant := func(used ...vf.Addr) func(vf.Addr) string {
		return func(a vf.Addr) string {
			for _, u := range used {
				if a == u {
					return "pod default/tenant"
				}
			}
			return ""
		}
	}
	dpdk := fast()
	dpdk.Groups = []vf.Group{group(vf.VFIO, "x/dpdk", "0-3"), group(vf.Kernel, "x/fast", "")}
	rows := map[string]struct {
		machine  *vftest.Machine
		change   func(*vf.Snapshot)
		claim    vf.Addr
		made     []vf.Addr
		policies []vf.Policy
		inUse    func(vf.Addr) string
	}{
		"create":     {machine: vftest.NewMachine(down), policies: []vf.Policy{fast()}},
		"create-max": {machine: vftest.NewMachine(down), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs = 2 })}},
		"create-few": {machine: vftest.NewMachine(down), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs, q.CreateVFs = 2, 4 })}},
		"subset":     {machine: vftest.NewMachine(nic(7)), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs = 2 })}},
		"vfio":       {machine: vftest.NewMachine(down), policies: []vf.Policy{dpdk}},
		"rebind":     {machine: vftest.NewMachine(nic(7)), policies: []vf.Policy{dpdk}, inUse: tenant(vf2)},
		"external":   {machine: vftest.NewMachine(nic(3)), policies: []vf.Policy{fast()}},
		"grow":       {machine: vftest.NewMachine(nic(3)), made: []vf.Addr{pf0}, policies: []vf.Policy{fast()}},
		"grow-used":  {machine: vftest.NewMachine(nic(3)), made: []vf.Addr{pf0}, policies: []vf.Policy{fast()}, inUse: tenant(vf2)},
		"grow-host":  {machine: vftest.NewMachine(nic(3)), made: []vf.Addr{pf0}, claim: vf2, policies: []vf.Policy{fast()}},
		"primary":    {machine: vftest.NewMachine(down), claim: pf0, policies: []vf.Policy{fast()}},
		"allowed":    {machine: vftest.NewMachine(down), claim: pf0, policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.AllowPrimary = true })}},
		"too-many":   {machine: vftest.NewMachine(down), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs = 8 })}},
		"mtu":        {machine: vftest.NewMachine(nic(2)), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs, q.MTU = 2, 9000 })}},
		"mtu-used":   {machine: vftest.NewMachine(nic(3)), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NumVFs, q.MTU = 3, 9000 })}, inUse: tenant(vf2)},
		"down": {machine: vftest.NewMachine(nic(7)), policies: []vf.Policy{fast()},
			change: func(s *vf.Snapshot) { s.PFs[0].AdminUp = false }},
		"driverless": {machine: vftest.NewMachine(nic(7)), policies: []vf.Policy{fast()},
			change: func(s *vf.Snapshot) { s.VFs[1].Driver, s.VFs[1].Netdev = "", ""; s.PFs[0].Autoprobe = false }},
		"no-iommu":      {machine: vftest.NewMachine(with(nic(7), func(n *vftest.NIC) { n.Group = -1 })), policies: []vf.Policy{dpdk}},
		"autoprobe-off": {machine: vftest.NewMachine(nic(7)), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.Autoprobe = &no })}},
		"autoprobe-on":  {machine: vftest.NewMachine(down), policies: []vf.Policy{with(dpdk, func(q *vf.Policy) { q.Autoprobe = &yes })}},
		"existing":      {machine: vftest.NewMachine(nic(3), vftest.Second()), policies: []vf.Policy{with(dpdk, func(q *vf.Policy) { q.NumVFs, q.NICs = 0, vf.NICs{} })}},
		"other-nic":     {machine: vftest.NewMachine(nic(0), vftest.Second()), policies: []vf.Policy{with(fast(), func(q *vf.Policy) { q.NICs = vf.NICs{Vendors: []string{"15b3"}} })}},
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			if r.change != nil {
				r.machine.Change(r.change)
			}
			if r.claim.IsValid() {
				r.machine.Claim(r.claim, "sriov0 carries the address 192.0.2.1/24")
			}
			got := printed(t, vf.Plan(observed(r.machine, r.made...), r.policies, r.inUse))
			golden(t, name, got)
		})
	}
}

// golden compares with one entry of testdata/plan.txtar; UPDATE=1 rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "plan.txtar")
	data, _ := os.ReadFile(path)
	a := txtar.Parse(data)
	for i, f := range a.Files {
		if f.Name != name {
			continue
		}
		if d := cmp.Diff(string(f.Data), got); d != "" {
			if os.Getenv("UPDATE") == "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			a.Files[i].Data = []byte(got)
			rewrite(t, path, a)
		}
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("no entry in %s; got:\n%s", path, got)
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(got)})
	rewrite(t, path, a)
}

func rewrite(t *testing.T, path string, a *txtar.Archive) {
	t.Helper()
	if os.Getenv("UPDATE") == "" {
		return
	}
	slices.SortFunc(a.Files, func(x, y txtar.File) int { return strings.Compare(x.Name, y.Name) })
	if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func with[T any](v T, f func(*T)) T { f(&v); return v }

// anyPolicies draws policies that may be about the two NICs.
func anyPolicies(t *rapid.T) []vf.Policy {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, "names")
	var out []vf.Policy
	for _, name := range names {
		q := vf.Policy{
			Name: name, Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
			NICs:         on(rapid.SampledFrom([]string{"sriov0", "sriov1", "sriov0#1-3", "SRIOV1#0,2"}).Draw(t, "pf")),
			NumVFs:       rapid.IntRange(0, 9).Draw(t, "numVFs"),
			CreateVFs:    rapid.IntRange(0, 9).Draw(t, "createVFs"),
			MTU:          rapid.SampledFrom([]int{0, 1500, 9000}).Draw(t, "mtu"),
			AllowPrimary: rapid.Bool().Draw(t, "allowPrimary"),
		}
		if rapid.Bool().Draw(t, "sets autoprobe") {
			b := rapid.Bool().Draw(t, "autoprobe")
			q.Autoprobe = &b
		}
		for range rapid.IntRange(1, 2).Draw(t, "groups") {
			q.Groups = append(q.Groups, group(rapid.SampledFrom([]string{vf.Kernel, vf.VFIO}).Draw(t, "driver"), "x/"+name,
				rapid.SampledFrom([]string{"", "0-1", "2", "5-6"}).Draw(t, "vfs")))
		}
		out = append(out, q)
	}
	return out
}

// anyMachine draws two NICs, some VFs in use, and which PFs' VFs are Tendril's.
func anyMachine(t *rapid.T) (*vftest.Machine, map[vf.Addr]bool, map[vf.Addr]bool) {
	second := vftest.Second()
	second.VFs = rapid.IntRange(0, 7).Draw(t, "second's VFs")
	m := vftest.NewMachine(nic(rapid.IntRange(0, 7).Draw(t, "first's VFs")), second)
	used, made := map[vf.Addr]bool{}, map[vf.Addr]bool{}
	for _, v := range m.Snapshot().VFs {
		used[v.Addr] = rapid.IntRange(0, 4).Draw(t, "used") == 0
	}
	for _, p := range m.Snapshot().PFs {
		made[p.Addr] = rapid.Bool().Draw(t, "made")
		if rapid.IntRange(0, 3).Draw(t, "claimed") == 0 {
			m.Claim(p.Addr, "carries an address")
		}
		if rapid.Bool().Draw(t, "autoprobe was off") {
			m.Change(func(s *vf.Snapshot) {
				for i := range s.PFs {
					s.PFs[i].Autoprobe = false
				}
			})
		}
	}
	return m, used, made
}

// TestInvariant6And7WhateverThePolicies: whatever the policies, no step that can be taken
// touches a VF in use; and Invariant 7, none touches a claimed PF without leave.
func TestInvariant6And7WhateverThePolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, used, made := anyMachine(t)
		policies := anyPolicies(t)
		o := vf.Observed{Snapshot: m.Snapshot(), Made: made}
		o.Claims, _ = m.Claims(nil)
		steps := vf.Plan(o, policies, func(a vf.Addr) string {
			if used[a] {
				return "pod default/a"
			}
			return ""
		})
		allowed := map[string]bool{}
		for _, q := range policies {
			allowed[q.Name] = q.AllowPrimary
		}
		for _, s := range steps {
			if s.Blocked != nil {
				var r *refusal.Refusal
				if !errors.As(s.Blocked, &r) || r.Object == "" || r.Field == "" || r.Allowed == "" {
					t.Fatalf("%s is blocked by %v, which does not name object, field and what is allowed", s, s.Blocked)
				}
				continue
			}
			if o.Claims[s.PF] != "" && !allowed[s.Policy] {
				t.Fatalf("%s is taken on a claimed PF", s)
			}
			for _, v := range o.Snapshot.Of(s.PF) {
				whole := s.Op == vf.Remove || s.Op == vf.Create || s.Op == vf.RaiseMTU
				if used[v.Addr] && (whole || s.Index == v.Index) {
					t.Fatalf("%s is taken although VF %d is used", s, v.Index)
				}
			}
			if s.Op == vf.Remove && !made[s.PF] {
				t.Fatalf("%s: somebody else made them", s)
			}
		}
	})
}

// A pod may have the whole PF, which has no VFs then: making some reinitialises it
// under the pod.
func TestInvariant6WholePFIsInUse(t *testing.T) {
	user := "pod default/router"
	inUse := func(a vf.Addr) string {
		if a == pf0 {
			return user
		}
		return ""
	}
	m := vftest.NewMachine(nic(0))
	m.Change(func(s *vf.Snapshot) { s.PFs[0].Netdev = "" }) // it is in the pod
	q := fast()
	q.NICs = vf.NICs{Vendors: []string{"8086"}}
	steps := vf.Plan(observed(m), []vf.Policy{q}, inUse)
	if len(steps) != 1 || !steps[0].Waits() || !strings.Contains(steps[0].Blocked.Error(), user) {
		t.Errorf("the PF is a pod's, and the plan is %v", steps)
	}
	user = ""
	if steps = vf.Plan(observed(m), []vf.Policy{q}, inUse); len(steps) == 0 || steps[0].Op != vf.Create || steps[0].Blocked != nil {
		t.Errorf("the PF is free again, and the plan is %v", steps)
	}
	user = "pod default/router"
	if steps = vf.Plan(observed(vftest.NewMachine(nic(7))), []vf.Policy{q}, inUse); len(steps) != 0 {
		t.Errorf("there is nothing to do, and the plan is %v", steps)
	}
}

// TestPlanConverges: taking the steps leaves nothing to do but what is blocked.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, used, made := anyMachine(t)
		policies := anyPolicies(t)
		inUse := func(a vf.Addr) string {
			if used[a] {
				return "pod default/a"
			}
			return ""
		}
		var steps []vf.Step
		for range 3 {
			o := vf.Observed{Snapshot: m.Snapshot(), Made: made}
			o.Claims, _ = m.Claims(nil)
			steps = vf.Plan(o, policies, inUse)
			for _, s := range steps {
				if s.Blocked != nil {
					continue
				}
				if err := m.Do(context.Background(), s); err != nil {
					t.Fatalf("%s: %v on\n%s", s, err, m)
				}
				if s.Op == vf.Create {
					made[s.PF] = true
				}
			}
		}
		for _, s := range steps {
			if s.Blocked == nil {
				t.Fatalf("planned again and again: %s on\n%s", s, m)
			}
		}
	})
}

// TestOnePlanIsEnough: what a plan does not see yet (VFs that it makes, network
// devices that a driver brings) it plans for as well.
func TestOnePlanIsEnough(t *testing.T) {
	rest := vf.Policy{Name: "rest", Priority: 50, NICs: on("sriov0"), MTU: 9000, Groups: []vf.Group{group(vf.Kernel, "x/rest", "")}}
	first := with(fast(), func(q *vf.Policy) { q.NumVFs = 1 })
	onVFIO := vftest.NewMachine(nic(7))
	onVFIO.Change(func(s *vf.Snapshot) {
		for i := range s.VFs {
			s.VFs[i].Driver, s.VFs[i].Netdev, s.VFs[i].MTU = vf.VFIO, "", 0
		}
	})
	for name, row := range map[string]struct {
		machine  *vftest.Machine
		policies []vf.Policy
	}{
		"a policy for the VFs that another one makes": {vftest.NewMachine(nic(0)), []vf.Policy{first, rest}},
		"an MTU for VFs that come from vfio":          {onVFIO, []vf.Policy{rest}},
	} {
		m := row.machine
		for _, s := range vf.Plan(observed(m), row.policies, nil) {
			if err := m.Do(context.Background(), s); err != nil {
				t.Errorf("%s: %s: %v", name, s, err)
			}
		}
		if steps := vf.Plan(observed(m, pf0), row.policies, nil); len(steps) > 0 {
			t.Errorf("%s: left to do on\n%s:\n%s", name, m, printed(t, steps))
		}
	}
}

func TestStrongerPolicyWins(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	weak := fast()
	weak.Name, weak.Priority = "a-weak", 99
	strong := vf.Policy{Name: "strong", Priority: 10, NICs: on("sriov0#2-3"), NumVFs: 7, Groups: []vf.Group{group(vf.VFIO, "x/dpdk", "")}}
	var got []string
	for _, a := range vf.Assign(m.Snapshot(), []vf.Policy{weak, strong}, nil) {
		got = append(got, a.Policy+" "+a.Driver)
	}
	want := []string{"a-weak kernel", "a-weak kernel", "strong vfio-pci", "strong vfio-pci", "a-weak kernel", "a-weak kernel", "a-weak kernel"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSelect(t *testing.T) {
	m := vftest.NewMachine(nic(7), vftest.Second())
	q := fast()
	q.NICs, q.NumVFs = on("sriov0", "sriov1#1"), 3
	q.Groups = []vf.Group{{VFs: vf.Ranges{{First: 0, Last: 0}}, Driver: vf.VFIO, Resource: "x/dpdk", VhostNet: true}, group(vf.Kernel, "x/fast", "")}
	none := vf.Policy{Name: "none", NICs: on("absent0"), NumVFs: 1, Groups: []vf.Group{group(vf.Kernel, "x/none", "")}}
	got := vf.Select(m.Snapshot(), []vf.Policy{q, none}, nil)
	addrs := func(s ...string) (out []vf.Addr) {
		for _, a := range s {
			out = append(out, vf.MustAddr(a))
		}
		return out
	}
	want := []vf.Selection{
		{Resource: "x/dpdk", VFs: addrs("0000:01:10.0"), VhostNet: addrs("0000:01:10.0"), Policies: []string{"fast"}},
		{Resource: "x/fast", VFs: addrs("0000:01:10.2", "0000:01:10.4", "0000:02:10.2"), Policies: []string{"fast"}},
		{Resource: "x/none", Policies: []string{"none"}},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b vf.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestUnfitIsReadable(t *testing.T) {
	m := vftest.NewMachine(nic(7))
	snap := m.Snapshot()
	v, _ := snap.VF(vf2)
	p, _ := snap.PF(pf0)
	a := vf.Assignment{PF: pf0, Index: 2, Policy: "fast", PFLink: true, Group: vf.Group{Driver: vf.VFIO}}
	if got := a.Unfit(v, p); got != `its driver is "igbvf", policy fast wants vfio-pci` {
		t.Error(got)
	}
	a.Driver, p.LinkUp = vf.Kernel, false
	if got := a.Unfit(v, p); got != "PF sriov0 has no link" {
		t.Error(got)
	}
	a.PFLink = false
	if got := a.Unfit(v, p); got != "" {
		t.Error(got)
	}
}

// BenchmarkPlan1024VFs plans for 8 PFs with 128 VFs each that are as wanted.
func BenchmarkPlan1024VFs(b *testing.B) {
	var nics []vftest.NIC
	for i := range 8 {
		nics = append(nics, vftest.NIC{Addr: fmt.Sprintf("0000:%02x:00.0", 0x10+4*i), Netdev: fmt.Sprintf("p%d", i), VFs: 128, Group: 200 * i})
	}
	m := vftest.NewMachine(nics...)
	o := observed(m)
	q := []vf.Policy{{Name: "all", NICs: vf.NICs{Vendors: []string{"8086"}}, NumVFs: 128, Groups: []vf.Group{group(vf.Kernel, "x/y", "")}}}
	for b.Loop() {
		if steps := vf.Plan(o, q, nil); len(steps) > 0 {
			b.Fatal(steps[0])
		}
	}
}
