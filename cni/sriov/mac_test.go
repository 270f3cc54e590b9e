package sriov

import (
	"context"
	"errors"
	"testing"

	"github.com/tendril-cni/tendril/vf/link"
	"github.com/tendril-cni/tendril/vf/link/linktest"
)

var (
	igb     = link.Target{PF: "sriov0", Driver: "igb", Index: 3}
	errKill = errors.New("killed")
)

const home, guest, set = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"

// killAfter makes every write but the first n fail, which is what a SIGKILL looks
// like to the hardware.
func killAfter(g *linktest.Igb, n int) {
	left := n
	g.Fail = func(string) error {
		if left == 0 {
			return errKill
		}
		left--
		return nil
	}
}

// before notes what Prior would note of g.
func before(g *linktest.Igb) prior {
	a := g.Attr
	return prior{Netdev: "eth7", MAC: g.MAC, Attributes: &a, Asked: []string{link.FieldMAC}}
}

// states are VFs as an attachment may find them.
var states = map[string]func() *linktest.Igb{
	"fresh": func() *linktest.Igb { return linktest.New(home) },
	"no address announced": func() *linktest.Igb {
		g := linktest.New(home)
		g.Attr.MAC = link.ZeroMAC
		return g
	},
	// A provisioner wrote an address that the VF takes at its next reset.
	"provisioned": func() *linktest.Igb {
		g := linktest.New(home)
		g.Locked, g.Attr.MAC = true, set
		return g
	},
}

func TestGiveMACLocksTheVFOnIt(t *testing.T) {
	for name, fresh := range states {
		t.Run(name, func(t *testing.T) {
			g := fresh()
			if err := giveMAC(context.Background(), igb, g, g, guest); err != nil {
				t.Fatal(err)
			}
			if g.MAC != guest || g.Attr.MAC != guest || !g.Locked {
				t.Errorf("%s", g)
			}
		})
	}
}

func TestGiveMACLeavesAnEqualOneOnTheDevice(t *testing.T) {
	g := linktest.New(home)
	if err := giveMAC(context.Background(), igb, g, g, home); err != nil {
		t.Fatal(err)
	}
	if len(g.Writes) != 1 || g.Writes[0] != "mac "+home || !g.Locked {
		t.Errorf("wrote %v, now %s", g.Writes, g)
	}
}

// TestInvariant3MACBeforeOrAfter kills the attachment after each write, and then
// each attempt to restore after each write, and wants the world before.
func TestInvariant3MACBeforeOrAfter(t *testing.T) {
	for name, fresh := range states {
		for _, wanted := range []string{guest, home} {
			sweep(t, name+" to "+wanted, fresh, wanted)
		}
	}
}

func sweep(t *testing.T, name string, fresh func() *linktest.Igb, wanted string) {
	t.Helper()
	ctx := context.Background()
	t.Run(name, func(t *testing.T) {
		for attach := range 5 {
			for detach := range 5 {
				g := fresh()
				p, want := before(g), g.String()
				killAfter(g, attach)
				_ = giveMAC(ctx, igb, g, g, wanted)
				g.Reset() // the device is closed on its way
				killAfter(g, detach)
				_ = restoreMAC(ctx, igb, g, g, p)
				g.Fail = nil
				if err := restoreMAC(ctx, igb, g, g, p); err != nil {
					t.Fatalf("killed after writes %d and %d: %v", attach, detach, err)
				}
				if g.String() != want {
					t.Errorf("killed after writes %d and %d:\ngot  %s\nwant %s", attach, detach, g, want)
				}
			}
		}
	})
}

func TestRestoreMACThatTheTenantChanged(t *testing.T) {
	ctx := context.Background()
	for _, locked := range []bool{false, true} {
		g := linktest.New(home)
		g.Locked = locked
		p := before(g)
		p.Asked = nil
		want := g.String()
		g.MAC, g.Attr.MAC = guest, guest // by way of trust, which is gone again
		if err := restoreMAC(ctx, igb, g, g, p); err != nil {
			t.Fatal(err)
		}
		if g.String() != want {
			t.Errorf("locked %v:\ngot  %s\nwant %s", locked, g, want)
		}
		g.Writes = nil
		if err := restoreMAC(ctx, igb, g, g, p); err != nil || len(g.Writes) > 0 {
			t.Errorf("second time: %v, wrote %v", err, g.Writes)
		}
	}
}

func TestRestoreMACWithoutDevice(t *testing.T) {
	rows := []struct {
		name       string
		p          prior
		now, after string
		writes     int
	}{
		{"userspace VF", prior{Attributes: &link.Attributes{MAC: home}}, guest, home, 1},
		{"userspace VF without address", prior{Attributes: &link.Attributes{MAC: link.ZeroMAC}}, guest, link.ZeroMAC, 1},
		{"there already", prior{Attributes: &link.Attributes{MAC: home}}, home, home, 0},
		{"announced by a driver that left", prior{Netdev: "eth7", MAC: home, Attributes: &link.Attributes{MAC: home}}, guest, link.ZeroMAC, 1},
		{"provisioned, driver left", prior{Netdev: "eth7", MAC: home, Attributes: &link.Attributes{MAC: set}}, guest, set, 1},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			g := linktest.New(home)
			g.Attr.MAC = r.now
			if err := restorePFMAC(context.Background(), igb, g, r.p); err != nil {
				t.Fatal(err)
			}
			if g.Attr.MAC != r.after || len(g.Writes) != r.writes {
				t.Errorf("wrote %v, now %s", g.Writes, g)
			}
		})
	}
}
