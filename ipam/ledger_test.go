package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/ipam"
)

func wb(inside string) string { return `{"type":"whereabouts",` + inside + `}` }

func cell(s string) ipam.Cell { c, err := ipam.ParseCell(s); must(err); return c }

// give makes slots of a cell this node's, as a claim does.
func give(store ipam.Store, space, c string, m ipam.Mask) {
	l := ipam.NewLedger(store)
	h := l.Holding(space, cell(c))
	l.Sync(space, cell(c), ipam.Confirmed{Mine: h.Owned | m, Claimed: m})
	must(l.Err())
}

// playShared is play for types that the cluster shares: "need" for NeedSlots,
// "~" ends all cooling.
func playShared(t *testing.T, store ipam.Store, c ipam.Config, script string) string {
	t.Helper()
	var out []string
	for step := range strings.SplitSeq(script, ";") {
		f := strings.Fields(step)
		if f[0] == "~" {
			l := ipam.NewLedger(store)
			for _, cell := range l.Cells(c.Cluster.Space) {
				l.Thaw(c.Cluster.Space, cell, ^ipam.Mask(0))
			}
			must(l.Err())
			continue
		}
		var n int
		if _, err := fmt.Sscanf(f[0][1:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		if f[0][0] == '-' {
			must(ipam.Release(store, "n", owner(n)))
			continue
		}
		l, err := ipam.Reserve(store, "n", c, owner(n), prefixes(f[1:]...))
		var need *ipam.NeedSlots
		switch {
		case errors.As(err, &need):
			out = append(out, "need")
		case err != nil:
			out = append(out, "refused")
		}
		for _, a := range l.Addresses {
			out = append(out, a.Prefix.Addr().String())
		}
	}
	return strings.Join(out, " ")
}

func TestSharedReserveOrder(t *testing.T) {
	small := wb(`"range":"10.0.0.0/29","gateway":"10.0.0.1"`)
	for name, tt := range map[string]struct {
		config string
		cells  map[string]ipam.Mask
		script string
		want   string
	}{
		"nothing claimed":                  {small, nil, "+1", "need"},
		"lowest first":                     {small, map[string]ipam.Mask{"10.0.0.0/26": 0b11111111}, "+1;+2;+3", "10.0.0.2 10.0.0.3 10.0.0.4"},
		"only what is claimed":             {small, map[string]ipam.Mask{"10.0.0.0/26": 0b00101000}, "+1;+2;+3", "10.0.0.3 10.0.0.5 need"},
		"network, gateway, broadcast":      {small, map[string]ipam.Mask{"10.0.0.0/26": 0b10000011}, "+1", "need"},
		"freed ones cool":                  {small, map[string]ipam.Mask{"10.0.0.0/26": 0b1100}, "+1;+2;-1;+3;~;+3", "10.0.0.2 10.0.0.3 need 10.0.0.2"},
		"its own again, cooling or not":    {small, map[string]ipam.Mask{"10.0.0.0/26": 0b11100}, "+1;+2;-2;-1;+2;+1", "10.0.0.2 10.0.0.3 10.0.0.3 10.0.0.2"},
		"lowest again after the cool-down": {small, map[string]ipam.Mask{"10.0.0.0/26": 0b11100}, "+1;+2;-1;~;+3", "10.0.0.2 10.0.0.3 10.0.0.2"},
		"same owner, same address":         {small, map[string]ipam.Mask{"10.0.0.0/26": 0b11100}, "+1;+1", "10.0.0.2 10.0.0.2"},
		"asked for":                        {small, map[string]ipam.Mask{"10.0.0.0/26": 0b11100}, "+1 10.0.0.4;+2 10.0.0.4;+3 10.0.0.1;+3 10.0.0.5", "10.0.0.4 refused refused need"},
		"excluded": {wb(`"range":"192.168.2.224/28","exclude":["192.168.2.229/30","192.168.2.225"]`),
			map[string]ipam.Mask{"192.168.2.192/26": ^ipam.Mask(0)}, "+1;+2;+3;+4 192.168.2.230", "192.168.2.226 192.168.2.227 192.168.2.232 refused"},
		"dual stack": {wb(`"ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]`),
			map[string]ipam.Mask{"10.0.0.0/26": 0xff, "fd00::/122": 0xff}, "+1;+2", "10.0.0.1 fd00::1 10.0.0.2 fd00::2"},
		"one set missing gives none": {wb(`"ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]`),
			map[string]ipam.Mask{"10.0.0.0/26": 0xff}, "+1", "need"},
		"twice the same range": {wb(`"ipRanges":[{"range":"10.0.0.0/24"},{"range":"10.0.0.0/24"}]`),
			map[string]ipam.Mask{"10.0.0.0/26": 0xff}, "+1;+1", "10.0.0.1 10.0.0.2 10.0.0.1 10.0.0.2"},
		"across cells, lowest cell first": {wb(`"range":"10.0.0.60-10.0.0.70/24"`),
			map[string]ipam.Mask{"10.0.0.64/26": 0b11, "10.0.0.0/26": 1 << 63}, "+1;+2;+3;+4", "10.0.0.63 10.0.0.64 10.0.0.65 need"},
		"upper half of a /64": {wb(`"range":"fd00::/64","range_start":"fd00::8000:0:0:5"`),
			map[string]ipam.Mask{"fd00::8000:0:0:0/122": 0xff}, "+1", "fd00::8000:0:0:5"},
	} {
		t.Run(name, func(t *testing.T) {
			store := mapStore{}
			c := config(t, tt.config)
			for name, m := range tt.cells {
				give(store, "", name, m)
			}
			if diff := cmp.Diff(tt.want, playShared(t, store, c, tt.script)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSharedAddressPassesToTheSamePodsNextSandbox(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/29"`))
	give(store, "", "10.0.0.0/26", 0xff)
	old, next := owner(1), owner(1)
	next.Container = "later"
	_, err := ipam.Reserve(store, "n", c, old, nil)
	must(err)
	l, err := ipam.Reserve(store, "n", c, next, nil)
	must(err)
	if got := l.Addresses[0].Prefix.String(); got != "10.0.0.1/29" {
		t.Errorf("next sandbox has %s", got)
	}
	must(ipam.Release(store, "n", old)) // a late DEL
	if h, _ := ipam.NewLedger(store).Holder("", netip.MustParseAddr("10.0.0.1")); h.Container != "later" {
		t.Errorf("held by %s", h)
	}
	other := next
	other.Container, other.UID = "other", "another pod of that name"
	l, err = ipam.Reserve(store, "n", c, other, nil)
	must(err)
	if got := l.Addresses[0].Prefix.String(); got != "10.0.0.2/29" {
		t.Errorf("another pod of the same name has %s while the first still runs", got)
	}
}

// TestInvariant5LostAddressPassesToNobody: the API server gave the slot of a live
// pod to another node. Its next sandbox gets another address, and is told who has
// this one if it asks.
func TestInvariant5LostAddressPassesToNobody(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/29"`))
	give(store, "", "10.0.0.0/26", 0b110)
	next := owner(1)
	next.Container = "later"
	_, err := ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	lost := ipam.NewLedger(store).Sync("", cell("10.0.0.0/26"), ipam.Confirmed{Mine: 0b100})
	if len(lost) != 1 || lost[0] != netip.MustParseAddr("10.0.0.1") {
		t.Fatalf("lost %v", lost)
	}
	var need *ipam.NeedSlots
	if _, err = ipam.Reserve(store, "n", c, next, prefixes("10.0.0.1")); !errors.As(err, &need) || need.Wants[0].Addr != lost[0] {
		t.Errorf("asked for: %v", err)
	}
	l, err := ipam.Reserve(store, "n", c, next, nil)
	must(err)
	if got := l.Addresses[0].Prefix.String(); got != "10.0.0.2/29" {
		t.Errorf("the next sandbox has %s", got)
	}
}

func TestSharedSpacesAndOverlaps(t *testing.T) {
	store := mapStore{}
	a := config(t, wb(`"range":"10.0.0.0/24"`))
	b := config(t, wb(`"range":"10.0.0.0/16"`))
	red := config(t, wb(`"range":"10.0.0.0/24","network_name":"red"`))
	give(store, "", "10.0.0.0/26", 0xff)
	give(store, "red", "10.0.0.0/26", 0xff)
	if got := playShared(t, store, a, "+1"); got != "10.0.0.1" {
		t.Error(got)
	}
	if got := playShared(t, store, b, "+2"); got != "10.0.0.2" {
		t.Errorf("overlapping range of the same space: %s", got)
	}
	l, err := ipam.Reserve(store, "m", red, owner(3), nil)
	must(err)
	if got := l.Addresses[0].Prefix.String(); got != "10.0.0.1/24" {
		t.Errorf("another space: %s", got)
	}
}

func TestInvariant5DoubtAndLeavingHandOutNothing(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/29"`))
	give(store, "", "10.0.0.0/26", 0xff)
	l := ipam.NewLedger(store)
	if got := l.Leave("", cell("10.0.0.0/26"), 0b10); got != 0b10 {
		t.Errorf("leaving %b", got)
	}
	if got := playShared(t, store, c, "+1;+2 10.0.0.1"); got != "10.0.0.2 need" {
		t.Error(got)
	}
	l.Distrust()
	if got := playShared(t, store, c, "+3;+1"); got != "need 10.0.0.2" {
		t.Error(got)
	}
	lost := l.Sync("", cell("10.0.0.0/26"), ipam.Confirmed{Mine: 0b1000})
	must(l.Err())
	if len(lost) != 1 || lost[0].String() != "10.0.0.2" {
		t.Errorf("lost %v", lost)
	}
	if got := playShared(t, store, c, "+3;-1;~;+4"); got != "10.0.0.3 need" {
		t.Error(got)
	}
}

func TestAConflictSetsTheAddressAside(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/29"`))
	l := ipam.NewLedger(store)
	l.Sync("", cell("10.0.0.0/26"), ipam.Confirmed{Mine: 0b110, Suspect: 0b110, Claimed: 0b110})
	must(l.Err())
	lease, err := ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	if !lease.Addresses[0].Suspect {
		t.Error("a suspect address is not marked")
	}
	must(ipam.SetAside(store, "n", owner(1), netip.MustParseAddr("10.0.0.1")))
	if got := playShared(t, store, c, "+1;+2;-1"); got != "10.0.0.2 need" {
		t.Error(got)
	}
	if h := l.Holding("", cell("10.0.0.0/26")); h.Aside != 0b10 || h.Idle != 0b110 {
		t.Errorf("holding %+v", h)
	}
	lease, err = ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	must(ipam.Proved(store, "n", owner(1)))
	lease, err = ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	if lease.Addresses[0].Suspect {
		t.Error("a proved address is suspect still")
	}
}

func TestClaimedAddressIsSharedByTwoSandboxes(t *testing.T) {
	store := mapStore{}
	c := config(t, wb(`"range":"10.0.0.0/29"`))
	for n := range 2 {
		o := owner(n)
		o.Claim = "blue/vm.n"
		_, err := ipam.Reserve(store, "n", c, o, nil)
		var need *ipam.NeedSlots
		if !errors.As(err, &need) || need.Owner.Claim != o.Claim {
			t.Fatalf("got %v", err)
		}
		l := ipam.NewLedger(store)
		l.Grant("n", o, []netip.Addr{netip.MustParseAddr("10.0.0.4")})
		must(l.Err())
		for range 2 {
			lease, err := ipam.Reserve(store, "n", c, o, nil)
			must(err)
			if got := lease.Addresses[0].Prefix.String(); got != "10.0.0.4/29" {
				t.Error(got)
			}
		}
	}
	must(ipam.Release(store, "n", owner(0)))
	must(ipam.Release(store, "n", owner(1)))
	if len(store) != 0 {
		t.Errorf("left over: %v", store)
	}
}

// TestInvariant5SharedModel plays a node against a cluster that gives and takes
// slots at will, and holds it to: no address twice, none that is not the node's,
// lowest first, and books that agree.
func TestInvariant5SharedModel(t *testing.T) {
	const space = "blue"
	c1, c2 := cell("10.0.0.0/26"), cell("10.0.0.64/26")
	rapid.Check(t, func(t *rapid.T) {
		c, err := ipam.Parse([]byte(wb(`"range":"10.0.0.58-10.0.0.69/24","gateway":"10.0.0.60","exclude":["10.0.0.65"],"network_name":"blue"`)))
		must(err)
		store := mapStore{}
		l := ipam.NewLedger(store)
		held := map[netip.Addr]int{}
		mine := map[ipam.Cell]ipam.Mask{}
		pick := func(t *rapid.T) (ipam.Cell, ipam.Mask) {
			if rapid.Bool().Draw(t, "second") {
				return c2, ipam.Mask(rapid.Uint64Range(0, 63).Draw(t, "mask"))
			}
			return c1, ipam.Mask(rapid.Uint64Range(0, 63).Draw(t, "mask")) << 58
		}
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				at, m := pick(t)
				l.Expect(space, at, "1", 8)
				mine[at] |= m
				if lost := l.Sync(space, at, ipam.Confirmed{Mine: mine[at], Claimed: m}); lost != nil {
					t.Fatalf("lost %v", lost)
				}
			},
			"give back": func(t *rapid.T) {
				at, m := pick(t)
				leaving := l.Leave(space, at, m)
				for _, i := range leaving.Slots() {
					if n, ok := held[at.Addr(i)]; ok {
						t.Fatalf("%s leaves, held by %d", at.Addr(i), n)
					}
				}
				mine[at] &^= leaving
				l.Sync(space, at, ipam.Confirmed{Mine: mine[at]})
			},
			"thaw": func(t *rapid.T) { at, m := pick(t); l.Thaw(space, at, m) },
			"reserve": func(t *rapid.T) {
				n := rapid.IntRange(1, 12).Draw(t, "owner")
				lowest, any := netip.Addr{}, false
				for _, at := range []ipam.Cell{c1, c2} {
					for _, i := range (c.Cluster.Sets[0].Mask(at) & l.Holding(space, at).Available()).Slots() {
						if !any {
							lowest, any = at.Addr(i), true
						}
					}
				}
				lease, err := ipam.Reserve(store, "n", c, owner(n), nil)
				var need *ipam.NeedSlots
				if errors.As(err, &need) {
					if any {
						t.Fatalf("owner %d needs slots, %s is there", n, lowest)
					}
					return
				}
				must(err)
				a := lease.Addresses[0].Prefix.Addr()
				if was, ok := held[a]; ok && was != n {
					t.Fatalf("%s has owners %d and %d", a, was, n)
				}
				at := ipam.CellOf(a)
				if !c.Cluster.Sets[0].Mask(at).Has(at.Index(a)) || !mine[at].Has(at.Index(a)) {
					t.Fatalf("%s is not this node's to give", a)
				}
				held[a] = n
			},
			"release": func(t *rapid.T) {
				n := rapid.IntRange(1, 12).Draw(t, "owner")
				must(ipam.Release(store, "n", owner(n)))
				for a, by := range held {
					if by == n {
						delete(held, a)
					}
				}
			},
			"": func(t *rapid.T) {
				must(l.Err())
				count := 0
				for _, at := range []ipam.Cell{c1, c2} {
					h := l.Holding(space, at)
					if h.Owned != mine[at] {
						t.Fatalf("owned %b, want %b", h.Owned, mine[at])
					}
					if (h.Idle|h.Suspect)&^h.Owned != 0 || (h.Cooling|h.Leaving|h.Aside)&^h.Idle != 0 {
						t.Fatalf("masks disagree: %+v", h)
					}
					count += h.Held().Count()
				}
				if count != len(held) {
					t.Fatalf("%d slots held, model %d", count, len(held))
				}
			},
		})
		for n := range 13 {
			must(ipam.Release(store, "n", owner(n)))
		}
		for at := range mine {
			l.Sync(space, at, ipam.Confirmed{})
		}
		must(l.Err())
		if len(store) != 0 {
			t.Fatalf("left over: %d keys", len(store))
		}
	})
}

func BenchmarkSharedReserveRelease(b *testing.B) {
	c := config(b, wb(`"range":"10.0.0.0/16"`))
	store := mapStore{}
	for _, name := range []string{"10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"} {
		give(store, "", name, ^ipam.Mask(0))
	}
	for n := range 110 {
		_, err := ipam.Reserve(store, "n", c, owner(n), nil)
		must(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, err := ipam.Reserve(store, "n", c, owner(1000), nil)
		must(err)
		must(ipam.Release(store, "n", owner(1000)))
	}
}
