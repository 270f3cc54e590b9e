package sbr_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/sbr"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_    cni.Modifier = (*sbr.Modifier)(nil)
	ctx               = context.Background()
	mute              = slog.New(slog.DiscardHandler)
)

// pod makes a pod with a macvlan of two families, of which IPv4 has a gateway
// and a default route.
func pod(t *testing.T) (*os.File, cni.Record) {
	t.Helper()
	master, _ := netnstest.Veth(t)
	ns := netnstest.Pod(t)
	a := netnstest.Attachment("macvlan", `{"master":"`+master.Attrs().Name+`"}`)
	a.Addresses = []cni.Address{
		{Prefix: netip.MustParsePrefix("10.8.0.5/24"), Gateway: netip.MustParseAddr("10.8.0.1")},
		{Prefix: netip.MustParsePrefix("2001:db8:8::5/64")},
	}
	a.Routes = []cni.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.8.0.1")},
		{Dst: netip.MustParsePrefix("10.99.0.0/16"), Via: netip.MustParseAddr("10.8.0.9")},
	}
	return ns, netnstest.MustAttach(t, macvlan.New(mute), ns, a)
}

// state prints our rules and the unicast routes of the tables, in order.
func state(t *testing.T, ns *os.File) []string {
	t.Helper()
	h := netnstest.Handle(t, ns)
	rules, err := h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rules {
		if r.Src != nil {
			out = append(out, fmt.Sprintf("rule from %s lookup %d", r.Src, r.Table))
		}
	}
	for _, table := range []int{50, 100, 101, 102, 254} {
		routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Type == 1 && !r.Dst.IP.IsLinkLocalUnicast() {
				out = append(out, fmt.Sprintf("%d: %s via %v src %v", table, r.Dst, r.Gw, r.Src))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestRoutesAreDividedByAddress(t *testing.T) {
	for name, test := range map[string]struct {
		conf string
		want []string
	}{
		"defaults": {`{}`, []string{
			"100: 0.0.0.0/0 via 10.8.0.1 src <nil>", "100: 10.8.0.0/24 via <nil> src 10.8.0.5", "100: 10.99.0.0/16 via 10.8.0.9 src <nil>",
			"101: 2001:db8:8::/64 via <nil> src <nil>",
			"rule from 10.8.0.5/32 lookup 100", "rule from 2001:db8:8::5/128 lookup 101"}},
		"gateways": {`{"gateways":["10.8.0.2","2001:db8:8::2"],"addSourceHints":true}`, []string{
			"100: 0.0.0.0/0 via 10.8.0.2 src <nil>", "100: 10.8.0.0/24 via <nil> src 10.8.0.5", "100: 10.99.0.0/16 via 10.8.0.9 src <nil>",
			"101: 2001:db8:8::/64 via <nil> src 2001:db8:8::5", "101: ::/0 via 2001:db8:8::2 src <nil>",
			"254: 10.8.0.0/24 via <nil> src 10.8.0.5", "254: 2001:db8:8::/64 via <nil> src 2001:db8:8::5",
			"rule from 10.8.0.5/32 lookup 100", "rule from 2001:db8:8::5/128 lookup 101"}},
		"table": {`{"table":50}`, []string{
			"254: 0.0.0.0/0 via 10.8.0.1 src <nil>", "254: 10.8.0.0/24 via <nil> src 10.8.0.5", "254: 10.99.0.0/16 via 10.8.0.9 src <nil>",
			"254: 2001:db8:8::/64 via <nil> src <nil>",
			"rule from 10.8.0.5/32 lookup 50", "rule from 2001:db8:8::5/128 lookup 50"}},
	} {
		t.Run(name, func(t *testing.T) {
			ns, r := pod(t)
			m := sbr.New(mute)
			for range 2 { // the second changes nothing
				done, err := netnstest.Modify(m, ns, r, "sbr", test.conf)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, state(t, ns)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if err := m.Check(ctx, ns, done); err != nil {
					t.Error(err)
				}
			}
			r.Attachment.Config.Plugins[0].Raw = []byte(test.conf)
			if err := netnstest.Handle(t, ns).LinkDel(netnstest.Link(t, netnstest.Handle(t, ns), "net1")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := m.Detach(ctx, ns, r); err != nil {
					t.Fatal(err)
				}
			}
			if left := state(t, ns); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestForeignRulesAndTablesStay(t *testing.T) {
	ns, r := pod(t)
	h := netnstest.Handle(t, ns)
	theirs := netlink.NewRule()
	theirs.Src, theirs.Table = &net.IPNet{IP: net.IPv4(10, 8, 0, 5), Mask: net.CIDRMask(32, 32)}, 100
	if err := h.RuleAdd(theirs); err != nil {
		t.Fatal(err)
	}
	m := sbr.New(mute)
	done, err := netnstest.Modify(m, ns, r, "sbr", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := state(t, ns); !slices.Contains(got, "rule from 10.8.0.5/32 lookup 101") {
		t.Errorf("table 100 is taken, got %v", got)
	}
	if err := m.Detach(ctx, ns, done); err != nil {
		t.Fatal(err)
	}
	if got := state(t, ns); !slices.Contains(got, "rule from 10.8.0.5/32 lookup 100") {
		t.Errorf("their rule is gone: %v", got)
	}
}

func TestInvariant9Refusals(t *testing.T) {
	ns, r := pod(t)
	for name, test := range map[string]struct{ conf, field string }{
		"not an address": {`{"gateways":["banana"]}`, "gateways[0]"},
		"two of one":     {`{"gateways":["10.0.0.1","10.0.0.2"]}`, "gateways[1]"},
		"table":          {`{"table":-1}`, "table"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := netnstest.Modify(sbr.New(mute), ns, r, "sbr", test.conf)
			netnstest.Refused(t, err, test.field)
		})
	}
	r.Attachment.Addresses = nil
	_, err := netnstest.Modify(sbr.New(mute), ns, r, "sbr", `{}`)
	netnstest.Refused(t, err, "ipam")
}

func TestPodGone(t *testing.T) {
	_, r := pod(t)
	if err := sbr.New(mute).Detach(ctx, nil, r); err != nil {
		t.Error(err)
	}
}
