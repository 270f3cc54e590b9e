package link_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/link/linktest"
)

// A PF whose driver refused a field for one VF is not asked again for another: the
// refusal comes before anything is written. Another NIC with that driver is: igb
// limits rates on an 82576 and has no such thing on an i350.
func TestInvariant9CapabilityIsLearnt(t *testing.T) {
	first := link.Target{PF: "pf0", Driver: "learner", Index: 0}
	second := link.Target{PF: "pf0", Driver: "learner", Index: 4}
	g := linktest.New("02:00:00:00:00:01")
	seen, _ := g.Read()
	wanted := link.Change{LinkState: ptr(link.StateEnable)}
	if err := link.Check(second, seen, wanted); err != nil {
		t.Fatalf("refused before anybody knew: %v", err)
	}
	var r *refusal.Refusal
	if err := link.ApplyTo(context.Background(), g, first, wanted); !errors.As(err, &r) {
		t.Fatalf("the driver took it: %v", err)
	}
	if err := link.Check(second, seen, wanted); !errors.As(err, &r) || r.Field != link.FieldLinkState || r.Object != second.String() {
		t.Errorf("not learnt: %v", err)
	}
	if err := link.Check(link.Target{PF: "pf1", Driver: "learner"}, seen, wanted); err != nil {
		t.Errorf("learnt for another NIC: %v", err)
	}
	if err := link.Check(link.Target{PF: "pf0", Driver: "another"}, seen, wanted); err != nil {
		t.Errorf("learnt for another driver: %v", err)
	}
	if err := link.Check(second, seen, link.Change{LinkState: ptr(link.StateAuto)}); err != nil {
		t.Errorf("the value it has needs no capability: %v", err)
	}
}

// maxOnly is a PF that limits rates and guarantees none, as ice is while DCB is on
// and mlx5 with older firmware.
type maxOnly struct{ *linktest.Igb }

func (p maxOnly) Write(s link.Step) error {
	if s.Field == link.FieldRates && s.Change.Rates.Min != 0 {
		return unix.EOPNOTSUPP
	}
	return p.Igb.Write(s)
}

// What one pod asks for in vain must not keep another from what the PF can do.
func TestRefusedGuaranteeLeavesTheLimit(t *testing.T) {
	p := maxOnly{linktest.New("02:00:00:00:00:01")}
	target := link.Target{PF: "pf0", Driver: "max-only"}
	seen, _ := p.Read()
	both := link.Change{Rates: &link.Rates{Min: 10, Max: 50}}
	if err := link.ApplyTo(t.Context(), p, target, both); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatalf("the driver took it: %v", err)
	}
	if err := link.Check(target, seen, both); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("not learnt: %v", err)
	}
	if err := link.Check(target, seen, link.Change{Rates: &link.Rates{Max: 50}}); err != nil {
		t.Errorf("a limit is refused because of a guarantee: %v", err)
	}
}

func TestCheckRefusesWhatCouldNotBeGivenBack(t *testing.T) {
	seen := link.Attributes{LinkState: link.StateAuto}
	for field, c := range map[string]link.Change{link.FieldTrust: {Trust: ptr(true)}, link.FieldSpoofChk: {SpoofChk: ptr(false)}} {
		var r *refusal.Refusal
		if err := link.Check(link.Target{PF: "pf0", Driver: "silent"}, seen, c); !errors.As(err, &r) || r.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Undo of any change leads back, whatever the VF was.
func TestUndoLeadsBack(t *testing.T) {
	g := linktest.New("02:00:00:00:00:01")
	target := link.Target{PF: "pf0", Driver: "undoer"}
	before, _ := g.Read()
	wanted := link.Change{
		VLAN: &link.VLAN{ID: 7, QoS: 3, Proto: link.Proto8021Q}, Rates: &link.Rates{Max: 50}, SpoofChk: ptr(false), Trust: ptr(true), LinkState: ptr(link.StateAuto),
	}
	fields := []string{link.FieldVLAN, link.FieldRates, link.FieldSpoofChk, link.FieldTrust, link.FieldLinkState, link.FieldMAC}
	if u := link.Undo(before, fields); u.MAC != nil {
		t.Error("Undo writes a MAC")
	}
	for _, c := range []link.Change{wanted, link.Undo(before, fields)} {
		if err := link.ApplyTo(context.Background(), g, target, c); err != nil {
			t.Fatal(err)
		}
	}
	after, _ := g.Read()
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
}
