package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/ipam"
)

// The store that the daemon uses needs no adapter.
var _ ipam.Store = (*bbolt.Bucket)(nil)

// mapStore is a Store in memory, without transactions.
type mapStore map[string][]byte

func (m mapStore) Get(k []byte) []byte   { return m[string(k)] }
func (m mapStore) Put(k, v []byte) error { m[string(k)] = append([]byte{}, v...); return nil }
func (m mapStore) Delete(k []byte) error { delete(m, string(k)); return nil }
func (m mapStore) String() string        { return fmt.Sprintf("%d keys", len(m)) }
func (m mapStore) clone() mapStore {
	c := mapStore{}
	for k, v := range m {
		c[k] = v
	}
	return c
}
func prefixes(ss ...string) []netip.Prefix { p, err := ipam.ParseAsked(ss); must(err); return p }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// wantOnlyCursors fails if anything but the places in the rounds is left.
func (m mapStore) wantOnlyCursors(t interface{ Errorf(string, ...any) }) {
	for k := range m {
		if _, rest, _ := strings.Cut(k, "\x00"); rest[0] != 'l' {
			t.Errorf("left over: %q", k)
		}
	}
}

func owner(n int) ipam.Owner {
	return ipam.Owner{Container: fmt.Sprintf("c%d", n), IfName: "net1", Pod: fmt.Sprintf("blue/p%d", n), UID: fmt.Sprintf("u%d", n)}
}

func config(t testing.TB, in string) ipam.Config {
	t.Helper()
	c, err := ipam.Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkMember(t interface{ Fatalf(string, ...any) }, set ipam.RangeSet, a ipam.Address) {
	for _, r := range set {
		x := a.Prefix.Addr()
		if r.Start.Compare(x) <= 0 && x.Compare(r.End) <= 0 && r.Subnet.Contains(x) {
			if x == r.Gateway || a.Gateway != r.Gateway || a.Prefix.Bits() != r.Subnet.Bits() {
				t.Fatalf("%v is not as range %v (gateway %s) has it", a, r, r.Gateway)
			}
			return
		}
	}
	t.Fatalf("%v is in no range of %v", a, set)
}

// play runs a script of lines such as "+1", "+2 10.0.0.5", "-1": reserve for
// owner 1, for owner 2 asking for an address, release of owner 1. It prints what
// each reserve gave.
func play(t *testing.T, store ipam.Store, c ipam.Config, script string) string {
	t.Helper()
	var out []string
	for step := range strings.SplitSeq(script, ";") {
		var n int
		f := strings.Fields(step)
		if _, err := fmt.Sscanf(f[0][1:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		if f[0][0] == '-' {
			must(ipam.Release(store, "n", owner(n)))
			continue
		}
		l, err := ipam.Reserve(store, "n", c, owner(n), prefixes(f[1:]...))
		switch {
		case errors.Is(err, ipam.ErrExhausted):
			out = append(out, "full")
		case err != nil:
			out = append(out, "refused")
		}
		for _, a := range l.Addresses {
			out = append(out, a.Prefix.Addr().String())
		}
	}
	return strings.Join(out, " ")
}

func TestReserveOrder(t *testing.T) {
	five := `{"type":"host-local","subnet":"10.0.0.0/29"}` // .2-.6, gateway .1
	two := hl(`"ranges":[[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.7","rangeEnd":"10.0.1.8"}]]`)
	dual := hl(`"ranges":[[{"subnet":"10.0.0.0/29"}],[{"subnet":"fd00::/64"}]]`)
	for name, tt := range map[string]struct{ config, script, want string }{
		"first to last, then none":          {five, "+1;+2;+3;+4;+5;+6", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 full"},
		"goes on after the last":            {five, "+1;-1;+2;-2;+3", "10.0.0.2 10.0.0.3 10.0.0.4"},
		"wraps, the last one at the end":    {five, "+1;+2;+3;+4;+5;-5;+6;-2;-6;+7;+8", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.6 10.0.0.3 10.0.0.6"},
		"same owner, same address":          {five, "+1;+2;+1;+3", "10.0.0.2 10.0.0.3 10.0.0.2 10.0.0.4"},
		"asked for":                         {five, "+1 10.0.0.5;+2", "10.0.0.5 10.0.0.6"},
		"asked for with a prefix":           {five, "+1 10.0.0.5/8", "10.0.0.5"},
		"asked for again by its owner":      {five, "+1 10.0.0.5;+1 10.0.0.5;+1", "10.0.0.5 10.0.0.5 10.0.0.5"},
		"asked for and taken":               {five, "+1;+2 10.0.0.2", "10.0.0.2 refused"},
		"asked for, but has another":        {five, "+1;+1 10.0.0.3", "10.0.0.2 refused"},
		"asked for the gateway":             {five, "+1 10.0.0.1", "refused"},
		"asked for outside":                 {five, "+1 10.0.0.7;+2 10.0.1.2", "refused refused"},
		"two asked for in one set":          {five, "+1 10.0.0.2 10.0.0.3;+2", "refused 10.0.0.2"},
		"through the ranges of a set":       {two, "+1;+2;+3;+4", "10.0.0.2 10.0.1.7 10.0.1.8 full"},
		"wraps to an earlier range":         {two, "+1;+2;+3;-1;-2;+4;+5", "10.0.0.2 10.0.1.7 10.0.1.8 10.0.0.2 10.0.1.7"},
		"one of each set":                   {dual, "+1;+2;+1", "10.0.0.2 fd00::2 10.0.0.3 fd00::3 10.0.0.2 fd00::2"},
		"asked for in one set of two":       {dual, "+1 fd00::ffff:0:0;+2", "10.0.0.2 fd00::ffff:0:0 10.0.0.3 fd00::ffff:0:1"},
		"asked for in both, any order":      {dual, "+1 fd00::9 10.0.0.6", "10.0.0.6 fd00::9"},
		"one set full gives none of any":    {dual, "+1;+2;+3;+4;+5;+6;-1;+6", "10.0.0.2 fd00::2 10.0.0.3 fd00::3 10.0.0.4 fd00::4 10.0.0.5 fd00::5 10.0.0.6 fd00::6 full 10.0.0.2 fd00::7"},
		"only a gateway is nothing at all":  {hl(`"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.1"`), "+1", "full"},
		"gateway in the middle":             {hl(`"subnet":"10.0.0.0/30","gateway":"10.0.0.2","rangeEnd":"10.0.0.3"`), "+1;+2;+3", "10.0.0.1 10.0.0.3 full"},
		"gateway at the end":                {hl(`"subnet":"10.0.0.0/30","gateway":"10.0.0.2"`), "+1;+2", "10.0.0.1 full"},
		"across nodes of the highest level": {hl(`"subnet":"10.0.0.0/7","rangeStart":"10.255.255.254","rangeEnd":"11.0.0.1"`), "+1;+2;+3;+4;+5;-2;-3;+6;+7", "10.255.255.254 10.255.255.255 11.0.0.0 11.0.0.1 full 10.255.255.255 11.0.0.0"},
		"across 64 bits":                    {hl(`"subnet":"fd00::/56","rangeStart":"fd00::ffff:ffff:ffff:fffe","rangeEnd":"fd00:0:0:1::"`), "+1;+2;+3;+4;-3;+5", "fd00::ffff:ffff:ffff:fffe fd00::ffff:ffff:ffff:ffff fd00:0:0:1:: full fd00:0:0:1::"},
		"last address of all":               {hl(`"subnet":"255.255.255.0/24","rangeStart":"255.255.255.254","rangeEnd":"255.255.255.255"`), "+1;+2;+3", "255.255.255.254 255.255.255.255 full"},
		"last address of all, IPv6":         {hl(`"subnet":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112","rangeStart":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"`), "+1;+2;+3;-2;+4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff full ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, play(t, mapStore{}, config(t, tt.config), tt.script)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReserveRefusalNamesHolderAndRanges(t *testing.T) {
	store := mapStore{}
	c := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	_, err := ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	_, err = ipam.Reserve(store, "n", c, owner(2), prefixes("10.0.0.2"))
	r := wantRefusal(t, "taken", err, "ips[0]", `"10.0.0.2"`)
	for _, part := range []string{"pod blue/p1", "container c1", "interface net1", "10.0.0.1-10.0.0.6"} {
		if !strings.Contains(r.Allowed, part) {
			t.Errorf("%q does not name %q", r.Allowed, part)
		}
	}
	_, err = ipam.Reserve(store, "n", c, owner(2), prefixes("10.0.0.3", "10.9.0.2"))
	if r := wantRefusal(t, "outside", err, "ips[1]", `"10.9.0.2"`); !strings.Contains(r.Allowed, "10.0.0.1-10.0.0.6") {
		t.Errorf("%q does not name the range", r.Allowed)
	}
	_, err = ipam.Reserve(store, "n", c, ipam.Owner{Container: "x"}, nil)
	wantRefusal(t, "no interface", err, "interface", `""`)
	_, err = ipam.Reserve(store, "", c, owner(2), nil)
	wantRefusal(t, "no network", err, "name", `""`)
}

func TestReserveExhaustedSaysHowMuchIsUsed(t *testing.T) {
	store := mapStore{}
	c := config(t, hl(`"ranges":[[{"subnet":"fd00::/64"}],[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/30"}]]`))
	play(t, store, c, "+1;+2")
	before := store.clone()
	_, err := ipam.Reserve(store, "blue", c, owner(3), nil)
	must(err)
	_, err = ipam.Reserve(store, "n", c, owner(3), nil)
	var full *ipam.ExhaustedError
	if !errors.As(err, &full) || !errors.Is(err, ipam.ErrExhausted) {
		t.Fatalf("got %v", err)
	}
	if full.Network != "n" || full.Set != 1 || full.Used != 2 {
		t.Errorf("got %+v", full)
	}
	if want := `network "n": range set 1 (10.0.0.1-10.0.0.2, 10.0.1.1-10.0.1.2): 2 of 2 addresses in use: no free address`; err.Error() != want {
		t.Errorf("got %s", err)
	}
	// The other network's keys aside, the refused call wrote nothing.
	must(ipam.Release(store, "blue", owner(3)))
	for k := range store {
		if strings.HasPrefix(k, "blue\x00") {
			delete(store, k)
		}
	}
	if diff := cmp.Diff(before, store); diff != "" {
		t.Error(diff)
	}
}

func TestInvariant5NetworksDoNotClash(t *testing.T) {
	store := mapStore{}
	c := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	for _, network := range []string{"a", "ab", "a.b"} {
		l, err := ipam.Reserve(store, network, c, owner(1), nil)
		must(err)
		if got := l.Addresses[0].Prefix.String(); got != "10.0.0.2/29" {
			t.Errorf("%s: %s", network, got)
		}
	}
	must(ipam.Release(store, "a", owner(1)))
	if _, err := ipam.Reserve(store, "ab", c, owner(2), prefixes("10.0.0.2")); err == nil {
		t.Error("the release in another network freed this one's address")
	}
}

func TestInvariant5OverlappingRangesOfOneNetworkShareAddresses(t *testing.T) {
	store := mapStore{}
	small := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	large := config(t, `{"type":"host-local","subnet":"10.0.0.0/16"}`)
	if got := play(t, store, small, "+1;+2"); got != "10.0.0.2 10.0.0.3" {
		t.Fatal(got)
	}
	if got := play(t, store, large, "+3 10.0.0.3;+3;+4"); got != "refused 10.0.0.4 10.0.0.5" {
		t.Error(got)
	}
}

func TestReleaseFreesAllEvenAfterTheRangesChanged(t *testing.T) {
	store := mapStore{}
	play(t, store, config(t, hl(`"subnet":"10.0.0.0/29"`)), "+1")
	other := config(t, hl(`"subnet":"10.1.0.0/29"`))
	if got := play(t, store, other, "+1;+1"); got != "10.1.0.2 10.1.0.2" {
		t.Errorf("after the change: %s", got)
	}
	play(t, store, other, "-1;-1;-2")
	store.wantOnlyCursors(t)
}

func TestStatic(t *testing.T) {
	c := config(t, `{"type":"static","addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}],"routes":[{"dst":"10.9.0.0/16"}],"dns":{"domain":"a"}}`)
	store := mapStore{}
	l, err := ipam.Reserve(store, "n", c, owner(1), nil)
	must(err)
	want := ipam.Lease{Addresses: c.Static.Addresses, Routes: c.Static.Routes, DNS: c.Static.DNS}
	if diff := cmp.Diff(want, l, compare); diff != "" {
		t.Error(diff)
	}
	l, err = ipam.Reserve(store, "n", c, owner(1), prefixes("10.0.0.9/24", "10.5.0.1/16"))
	must(err)
	want.Addresses = []ipam.Address{
		{Prefix: netip.MustParsePrefix("10.0.0.9/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
		{Prefix: netip.MustParsePrefix("10.5.0.1/16")},
	}
	if diff := cmp.Diff(want, l, compare); diff != "" {
		t.Error(diff)
	}
	_, err = ipam.Reserve(store, "n", c, owner(1), prefixes("10.0.0.9"))
	wantRefusal(t, "bare", err, "ips[0]", `"10.0.0.9"`)
	_, err = ipam.Reserve(store, "n", config(t, `{"type":"static"}`), owner(1), nil)
	wantRefusal(t, "none", err, "ipam.addresses", `"[]"`)
	must(ipam.Release(store, "n", owner(1)))
	if len(store) != 0 {
		t.Errorf("static stored %v", store)
	}
}

// TestInvariant5Model holds Reserve and Release against a model that knows only
// who has what, and walks the ranges address by address.
func TestInvariant5Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := ipam.Parse([]byte(hl(rapid.SampledFrom([]string{
			`"subnet":"10.0.0.0/29"`,
			`"subnet":"10.0.0.0/25","rangeStart":"10.0.0.60","rangeEnd":"10.0.0.70","gateway":"10.0.0.64"`,
			`"ranges":[[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/25","rangeStart":"10.0.1.62","rangeEnd":"10.0.1.66"}],[{"subnet":"fd00::/125"}]]`,
		}).Draw(t, "config"))))
		must(err)
		m := &model{sets: c.HostLocal.Sets, last: map[int]netip.Addr{}, held: map[int][]netip.Addr{}}
		store := mapStore{}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(t, "owner")
				want, full := m.reserve(n)
				before := store.clone()
				l, err := ipam.Reserve(store, "n", c, owner(n), nil)
				if full != errors.Is(err, ipam.ErrExhausted) {
					t.Fatalf("owner %d: error %v, model full: %v", n, err, full)
				}
				if full {
					if diff := cmp.Diff(before, store); diff != "" {
						t.Fatal(diff)
					}
					return
				}
				for i, a := range l.Addresses {
					checkMember(t, m.sets[i], a)
					if a.Prefix.Addr() != want[i] {
						t.Fatalf("owner %d, set %d: %s, model %s", n, i, a.Prefix, want[i])
					}
				}
			},
			"ask": func(t *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(t, "owner")
				r := m.sets[0][0]
				a := r.Start
				for range rapid.IntRange(0, 12).Draw(t, "offset") {
					a = a.Next()
				}
				ok := m.ask(n, a)
				_, err := ipam.Reserve(store, "n", c, owner(n), []netip.Prefix{netip.PrefixFrom(a, -1)})
				if ok != (err == nil) {
					t.Fatalf("owner %d asks %s: %v, model ok: %v", n, a, err, ok)
				}
			},
			"release": func(t *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(t, "owner")
				delete(m.held, n)
				must(ipam.Release(store, "n", owner(n)))
			},
			"": func(t *rapid.T) {
				seen := 0
				for k := range store {
					if strings.HasPrefix(k, "n\x00s") {
						seen++
					}
				}
				want := 0
				for _, list := range m.held {
					want += len(list)
				}
				if seen != want {
					t.Fatalf("%d slots have owners, model %d", seen, want)
				}
			},
		})
		for n := range 21 {
			must(ipam.Release(store, "n", owner(n)))
		}
		store.wantOnlyCursors(t)
	})
}

// model is host-local told in the plainest way.
type model struct {
	sets []ipam.RangeSet
	last map[int]netip.Addr
	held map[int][]netip.Addr
}

// usable lists every address of a set that may be handed out, gateways left out.
func (m *model) usable(set int) (out []netip.Addr) {
	for _, r := range m.sets[set] {
		for a := r.Start; a.Compare(r.End) <= 0; a = a.Next() {
			if a != r.Gateway {
				out = append(out, a)
			}
		}
	}
	return out
}

func (m *model) taken(a netip.Addr) bool {
	for _, list := range m.held {
		for _, h := range list {
			if h == a {
				return true
			}
		}
	}
	return false
}

func (m *model) next(set int) netip.Addr {
	all := m.usable(set)
	start := 0
	for i, a := range all {
		if a == m.last[set] {
			start = i + 1
		}
	}
	for i := range all {
		if a := all[(start+i)%len(all)]; !m.taken(a) {
			return a
		}
	}
	return netip.Addr{}
}

func (m *model) reserve(n int) (got []netip.Addr, full bool) {
	if m.held[n] != nil {
		return m.held[n], false
	}
	for set := range m.sets {
		a := m.next(set)
		if !a.IsValid() {
			return nil, true
		}
		got = append(got, a)
	}
	for set, a := range got {
		m.last[set] = a
	}
	m.held[n] = got
	return got, false
}

// ask is reserve with an address of set 0 asked for.
func (m *model) ask(n int, a netip.Addr) bool {
	set := -1
	for i := range m.sets {
		for _, u := range m.usable(i) {
			if u == a {
				set = i
			}
		}
	}
	if set < 0 {
		return false
	}
	if m.held[n] != nil {
		return m.held[n][set] == a
	}
	if m.taken(a) {
		return false
	}
	got := make([]netip.Addr, len(m.sets))
	for i := range m.sets {
		if got[i] = a; i != set {
			if got[i] = m.next(i); !got[i].IsValid() {
				return false
			}
		}
	}
	for i, x := range got {
		m.last[i] = x
	}
	m.held[n] = got
	return true
}

// counting counts reads, so that "does not scan" can be asserted without a
// clock.
type counting struct {
	mapStore
	gets int
}

func (c *counting) Get(k []byte) []byte { c.gets++; return c.mapStore.Get(k) }

func TestReserveDoesNotScan(t *testing.T) {
	const most = 40
	store := &counting{mapStore: mapStore{}}
	wide := config(t, hl(`"ranges":[[{"subnet":"10.0.0.0/8"}],[{"subnet":"fd00::/16"}]]`))
	_, err := ipam.Reserve(store, "n", wide, owner(1), nil)
	must(err)
	if store.gets > most {
		t.Errorf("empty: %d reads", store.gets)
	}
	// All of a /16 but two addresses, the cursor just behind the free one.
	c := config(t, hl(`"subnet":"10.0.0.0/16"`))
	fill(store, c, 65533)
	must(ipam.Release(store, "f", owner(30000)))
	store.gets = 0
	l, err := ipam.Reserve(store, "f", c, owner(70000), nil)
	must(err)
	if store.gets > most {
		t.Errorf("nearly full: %d reads", store.gets)
	}
	if got := l.Addresses[0].Prefix.String(); got != "10.0.117.49/16" { // .0.1 + 30000
		t.Errorf("got %s", got)
	}
	store.gets = 0
	if _, err := ipam.Reserve(store, "f", c, owner(70001), nil); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("got %v", err)
	}
	if store.gets > most {
		t.Errorf("full: %d reads", store.gets)
	}
}

// fill reserves addresses of c in network f for owners 1..n.
func fill(store ipam.Store, c ipam.Config, n int) {
	for i := 1; i <= n; i++ {
		_, err := ipam.Reserve(store, "f", c, owner(i), nil)
		must(err)
	}
}

// broken fails the n-th write.
type broken struct {
	mapStore
	left int
}

var errDisk = errors.New("disk")

func (b *broken) Put(k, v []byte) error {
	if b.left--; b.left == 0 {
		return errDisk
	}
	return b.mapStore.Put(k, v)
}

func (b *broken) Delete(k []byte) error {
	if b.left--; b.left == 0 {
		return errDisk
	}
	return b.mapStore.Delete(k)
}

func TestEveryFailedWriteIsReported(t *testing.T) {
	c := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	writes := 0
	for left := 1; ; left++ {
		store := &broken{mapStore: mapStore{}, left: left}
		_, err := ipam.Reserve(store, "n", c, owner(1), nil)
		if err == nil {
			err = ipam.Release(store, "n", owner(1))
		}
		if err == nil {
			store.wantOnlyCursors(t)
			break
		}
		if !errors.Is(err, errDisk) {
			t.Fatalf("write %d: %v", left, err)
		}
		writes++
	}
	if writes < 6 {
		t.Errorf("only %d writes for a reserve and a release", writes)
	}
}

// An index that names a slot of somebody else frees nothing of theirs.
func TestInvariant5ReleaseTouchesOnlyItsOwn(t *testing.T) {
	c := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	store := mapStore{}
	play(t, store, c, "+1")
	store["n\x00oc2\x00net1"] = store["n\x00oc1\x00net1"]
	if got := play(t, store, c, "-2;+3 10.0.0.2;+1"); got != "refused 10.0.0.2" {
		t.Error(got)
	}
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	c := config(t, `{"type":"host-local","subnet":"10.0.0.0/29"}`)
	whole := mapStore{}
	play(t, whole, c, "+1")
	for k := range whole {
		_, rest, _ := strings.Cut(k, "\x00")
		store := whole.clone()
		store[k] = []byte("\xff")
		_, err1 := ipam.Reserve(store, "n", c, owner(2), prefixes("10.0.0.2"))
		_, err2 := ipam.Reserve(store, "n", c, owner(3), nil)
		err3 := ipam.Release(store, "n", owner(1))
		damaged := rest[0] != 'l'
		if got := err1 != nil && (err2 != nil || err3 != nil); got != damaged {
			t.Errorf("%q: %v, %v, %v", k, err1, err2, err3)
		}
	}
}

func BenchmarkReserveRelease(b *testing.B) {
	for name, tt := range map[string]struct {
		config string
		used   int
	}{
		"empty24":      {`"subnet":"10.0.0.0/24"`, 0},
		"half16":       {`"subnet":"10.0.0.0/16"`, 32767},
		"nearlyfull16": {`"subnet":"10.0.0.0/16"`, 65532},
		"empty64":      {`"subnet":"fd00::/64"`, 0},
	} {
		b.Run(name, func(b *testing.B) {
			store := mapStore{}
			c := config(b, hl(tt.config))
			fill(store, c, tt.used)
			o := owner(100000)
			b.ReportAllocs()
			for b.Loop() {
				_, err := ipam.Reserve(store, "f", c, o, nil)
				must(err)
				must(ipam.Release(store, "f", o))
			}
		})
	}
}
