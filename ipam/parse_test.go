package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// compare lets go-cmp look at netip values.
var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// printSets prints "start-end gw gateway /bits" of every range, a set a line.
func printSets(c ipam.Config) string {
	var b strings.Builder
	for _, set := range c.HostLocal.Sets {
		for i, r := range set {
			if i > 0 {
				b.WriteString("; ")
			}
			fmt.Fprintf(&b, "%s gw %s /%d", r, r.Gateway, r.Subnet.Bits())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestParseHostLocalRanges(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"old form": {
			`{"type":"host-local","subnet":"10.1.0.0/24"}`,
			"10.1.0.1-10.1.0.254 gw 10.1.0.1 /24\n"},
		"old form complete": {
			`{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.10","rangeEnd":"10.1.0.20","gateway":"10.1.0.254"}`,
			"10.1.0.10-10.1.0.20 gw 10.1.0.254 /24\n"},
		"old form goes before ranges": {
			`{"type":"host-local","ranges":[[{"subnet":"fd00::/64"}]],"subnet":"10.1.0.0/24"}`,
			"10.1.0.1-10.1.0.254 gw 10.1.0.1 /24\nfd00::1-fd00::ffff:ffff:ffff:ffff gw fd00::1 /64\n"},
		"dual stack": {
			`{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/126"}]]}`,
			"10.1.0.1-10.1.0.254 gw 10.1.0.1 /24\nfd00::1-fd00::3 gw fd00::1 /126\n"},
		"two ranges in a set": {
			`{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24","rangeEnd":"10.1.0.9"},{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.200"}]]}`,
			"10.1.0.1-10.1.0.9 gw 10.1.0.1 /24; 10.1.0.200-10.1.0.254 gw 10.1.0.1 /24\n"},
		"network and broadcast address on request": {
			`{"type":"host-local","subnet":"10.1.0.0/30","rangeStart":"10.1.0.0","rangeEnd":"10.1.0.3"}`,
			"10.1.0.0-10.1.0.3 gw 10.1.0.1 /30\n"},
		"gateway elsewhere": {
			`{"type":"host-local","subnet":"10.1.0.0/30","gateway":"10.9.0.1"}`,
			"10.1.0.1-10.1.0.2 gw 10.9.0.1 /30\n"},
		"keys in any case, unknown keys": {
			`{"Type":"host-local","SUBNET":"10.1.0.0/30","rangestart":"10.1.0.2","colour":"blue"}`,
			"10.1.0.2-10.1.0.2 gw 10.1.0.1 /30\n"},
		"everything": {
			`{"type":"host-local","ranges":[[{"subnet":"0.0.0.0/0"}],[{"subnet":"8000::/1"}]]}`,
			"0.0.0.1-255.255.255.254 gw 0.0.0.1 /0\n8000::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff gw 8000::1 /1\n"},
		"stray gateway beside ranges": {
			`{"type":"host-local","gateway":"10.1.0.9","ranges":[[{"subnet":"10.1.0.0/30"}]]}`,
			"10.1.0.1-10.1.0.2 gw 10.1.0.1 /30\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ipam.Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, printSets(c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// hl wraps the inside of a host-local object.
func hl(inside string) string { return `{"type":"host-local",` + inside + `}` }

func TestInvariant9ParseRefusesNamingFieldAndValue(t *testing.T) {
	for _, tt := range []struct{ in, field, value string }{
		{`{}`, "ipam.type", `""`},
		{`{"type":"dhcp"}`, "ipam.type", `"dhcp"`},
		{`[]`, "ipam", "["},
		{`{"type":`, "ipam", `{"type":`},
		{`{"type":5}`, "ipam.type", "5"},
		{hl(`"routes":{}`), "ipam.routes", "{"},
		{hl(`"x":1`), "ipam.ranges", `"[]"`},
		{hl(`"rangeStart":"10.0.0.1"`), "ipam.ranges", `"[]"`},
		{hl(`"ranges":[[]]`), "ipam.ranges[0]", `"[]"`},
		{hl(`"ranges":[[{}]]`), "ipam.ranges[0][0].subnet", `""`},
		{hl(`"subnet":"10.0.0.0"`), "ipam.subnet", `"10.0.0.0"`},
		{hl(`"subnet":"10.0.0.0/33"`), "ipam.subnet", `"10.0.0.0/33"`},
		{hl(`"subnet":"10.0.0.0/31"`), "ipam.subnet", `"10.0.0.0/31"`},
		{hl(`"subnet":"fd00::/127"`), "ipam.subnet", `"fd00::/127"`},
		{hl(`"subnet":"10.0.0.1/24"`), "ipam.subnet", `"10.0.0.1/24"`},
		{hl(`"subnet":"::ffff:10.0.0.0/104"`), "ipam.subnet", `"::ffff:10.0.0.0/104"`},
		{hl(`"subnet":"::/64"`), "ipam.subnet", `"::/64"`},
		{hl(`"subnet":"10.0.0.0/24","rangeStart":"10.0.1.1"`), "ipam.rangeStart", `"10.0.1.1"`},
		{hl(`"subnet":"10.0.0.0/24","rangeStart":"x"`), "ipam.rangeStart", `"x"`},
		{hl(`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.255"`), "ipam.rangeStart", `"10.0.0.255"`},
		{hl(`"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.0"`), "ipam.rangeEnd", `"10.0.0.0"`},
		{hl(`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"`), "ipam.rangeEnd", `"10.0.0.8"`},
		{hl(`"subnet":"10.0.0.0/24","gateway":"fd00::1"`), "ipam.gateway", `"fd00::1"`},
		{hl(`"subnet":"fd00::/64","gateway":"fe80::1%eth0"`), "ipam.gateway", `"fe80::1%eth0"`},
		{hl(`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]`), "ipam.ranges[0][1].subnet", `"fd00::/64"`},
		{hl(`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.0.0/25"}]]`), "ipam.ranges[0][1]", `"10.0.0.1-10.0.0.126"`},
		{hl(`"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/16"}]]`), "ipam.ranges[0][0]", `"10.0.0.1-10.0.255.254"`},
		{hl(`"subnet":"10.0.0.0/24","routes":[{"dst":"10.0.0.1/8"}]`), "ipam.routes[0].dst", `"10.0.0.1/8"`},
		{hl(`"subnet":"10.0.0.0/24","routes":[{"dst":"::/0","gw":"10.0.0.1"}]`), "ipam.routes[0].gw", `"10.0.0.1"`},
		{hl(`"subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0","scope":256}]`), "ipam.routes[0].scope", `256`},
		{hl(`"subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0","priority":"1"}]`), "ipam.routes.priority", `"1"`},
		{`{"type":"static","addresses":[{"address":"10.0.0.1"}]}`, "ipam.addresses[0].address", `"10.0.0.1"`},
		{`{"type":"static","addresses":[{"address":"10.0.0.1/24"},{"address":"10.0.0.1/16"}]}`, "ipam.addresses[1].address", `"10.0.0.1/16"`},
		{`{"type":"static","addresses":[{"address":"10.0.0.1/24","gateway":"gw"}]}`, "ipam.addresses[0].gateway", `"gw"`},
	} {
		_, err := ipam.Parse([]byte(tt.in))
		wantRefusal(t, tt.in, err, tt.field, tt.value)
	}
}

// wantRefusal checks field and value, and that the refusal says what is allowed.
func wantRefusal(t *testing.T, in any, err error, field, value string) *refusal.Refusal {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) {
		t.Errorf("%v: error %v, want a refusal of %s", in, err, field)
		return &refusal.Refusal{}
	}
	if r.Field != field || r.Value != value || r.Allowed == "" {
		t.Errorf("%v: refused %s %s (allowed %s), want %s %s", in, r.Field, r.Value, r.Allowed, field, value)
	}
	return r
}

func TestParseStaticAndRoutes(t *testing.T) {
	c, err := ipam.Parse([]byte(`{"type":"static",
		"addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}],
		"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":1400,"advmss":1360,"priority":7,"table":100,"scope":0},{"dst":"fd01::1/64"}],
		"dns":{"nameservers":["10.0.0.2"],"domain":"a","search":["b"],"options":["c"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	table, scope := 100, 0
	want := ipam.Config{Type: "static", Static: &ipam.Static{
		Addresses: []ipam.Address{
			{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
			{Prefix: netip.MustParsePrefix("fd00::5/64")},
		},
		Routes: []ipam.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.1"), MTU: 1400, AdvMSS: 1360, Priority: 7, Table: &table, Scope: &scope},
			{Dst: netip.MustParsePrefix("fd01::/64")},
		},
		DNS: ipam.DNS{Nameservers: []string{"10.0.0.2"}, Domain: "a", Search: []string{"b"}, Options: []string{"c"}},
	}}
	if diff := cmp.Diff(want, c, compare); diff != "" {
		t.Error(diff)
	}
}

func TestParseResolvConf(t *testing.T) {
	got := ipam.ParseResolvConf([]byte("# x\n;nameserver 9.9.9.9\nnameserver 10.0.0.2\nnameserver\n" +
		"domain a\nsearch b c\noptions ndots:2\n\nsortlist 1\nnameserver fd00::2"))
	want := ipam.DNS{Nameservers: []string{"10.0.0.2", "fd00::2"}, Domain: "a", Search: []string{"b", "c"}, Options: []string{"ndots:2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseAsked(t *testing.T) {
	got, err := ipam.ParseAsked([]string{"10.0.0.5", "fd00::5/64", "::ffff:10.0.0.6"})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Addr().String() != "10.0.0.5" || got[0].Bits() != -1 || got[1].String() != "fd00::5/64" || got[2].Addr().String() != "10.0.0.6" {
		t.Errorf("got %v", got)
	}
	for _, bad := range [][]string{{"10.0.0.5", "x"}, {"10.0.0.5", "10.0.0.5/24"}, {"10.0.0.5", "fe80::1%eth0"}} {
		_, err := ipam.ParseAsked(bad)
		wantRefusal(t, bad, err, "ips[1]", fmt.Sprintf("%q", bad[1]))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		hl(`"subnet":"10.1.0.0/30","rangeStart":"10.1.0.0","rangeEnd":"10.1.0.3"`),
		hl(`"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/126","gateway":"fd00::3"}]]`),
		hl(`"subnet":"255.255.255.0/24","rangeEnd":"255.255.255.255"`),
		hl(`"subnet":"8000::/1"`),
		`{"type":"static","addresses":[{"address":"10.0.0.5/24"}]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, k := range ipam.Unread([]byte(in)) {
			if !strings.HasPrefix(k.Path, "ipam.") {
				t.Errorf("%q: unread %q", in, k.Path)
			}
		}
		c, err := ipam.Parse([]byte(in))
		if err != nil {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Field == "" || r.Allowed == "" {
				t.Fatalf("%q: %v is not a whole refusal", in, err)
			}
			return
		}
		if c.HostLocal == nil {
			return
		}
		// Whatever the ranges: what is handed out lies in its range, is not the
		// gateway, and comes back.
		store := mapStore{}
		l, err := ipam.Reserve(store, "n", c, owner(1), nil)
		if err != nil {
			if !errors.Is(err, ipam.ErrExhausted) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		for i, a := range l.Addresses {
			checkMember(t, c.HostLocal.Sets[i], a)
		}
		if err := ipam.Release(store, "n", owner(1)); err != nil {
			t.Fatal(err)
		}
		store.wantOnlyCursors(t)
	})
}
