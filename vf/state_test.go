package vf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/vftest"
)

func TestVerdictSaysTheMostUrgent(t *testing.T) {
	step := vf.Step{PF: pf0, Name: "sriov0", Op: vf.Create, Index: -1, Value: 7, Policy: "fast"}
	refused, waits := step, step
	refused.Blocked = refusal.New("PF sriov0", "numVFs", 8, "0..7")
	waits.Blocked = refusal.New("PF sriov0", "numVFs", 7, "0..3 while VF 2 is used by pod default/a").Because(vf.ErrInUse)
	waits.Policy = "other"
	failure := map[vf.Addr]error{pf0: errors.New("no room on the bus")}
	rows := []struct {
		name     string
		steps    []vf.Step
		failures map[vf.Addr]error
		want     vf.Reason
		say      string
		settled  bool
	}{
		{"nothing left", nil, nil, vf.Applied, "all policies", true},
		{"waiting", []vf.Step{waits}, nil, vf.InUse, "pod default/a", true},
		{"refused, and waiting", []vf.Step{waits, refused}, nil, vf.Refused, "0..7", true},
		{"at work", []vf.Step{waits, refused, step}, nil, vf.Applying, "create 7 VFs", false},
		{"failing", []vf.Step{step}, failure, vf.Failed, "no room", false},
	}
	m := vftest.NewMachine(nic(3))
	for _, r := range rows {
		s := vf.State{Snapshot: m.Snapshot(), Steps: r.steps, Failures: r.failures}
		v := s.Verdict()
		if v.Reason != r.want || !strings.Contains(v.Message, r.say) || s.Settled() != r.settled || v.Ready() != (r.want == vf.Applied) {
			t.Errorf("%s: %+v, settled %v", r.name, v, s.Settled())
		}
	}
	q := fast()
	q.NICs = on("absent0")
	s := vf.State{Snapshot: m.Snapshot(), Policies: []vf.Policy{fast(), q}, Steps: []vf.Step{waits}, Failures: map[vf.Addr]error{pf1: errors.New("another NIC's")}}
	if v := s.Of(fast()); v.Reason != vf.Applied {
		t.Errorf("what is others' shows in the policy: %+v", v)
	}
	if v := s.Of(q); v.Reason != vf.NoNIC || !v.Ready() {
		t.Errorf("a policy without NIC: %+v", v)
	}
	if q.NumVFs++; s.Of(q).Reason != vf.Applying {
		t.Errorf("a policy that changed since: %+v", s.Of(q))
	}
}
