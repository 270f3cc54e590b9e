package flight_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/flight"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func TestLookAtAPod(t *testing.T) {
	ns := netnstest.Pod(t)
	h := netnstest.Handle(t, ns)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "net1", MTU: 1400}, PeerName: "far"}))
	link, err := h.LinkByName("net1")
	must(err)
	must(h.LinkSetUp(link))
	must(h.LinkSetUp(netnstest.Link(t, h, "far")))
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	must(err)
	must(h.AddrAdd(link, addr))
	must(h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: addr.IP, Table: 100}))
	rule := netlink.NewRule()
	rule.Table, rule.Priority, rule.Src = 100, 32765, addr.IPNet
	must(h.RuleAdd(rule))

	got := flight.Look(ns)
	if len(got.Errors) > 0 || got.Cut {
		t.Errorf("errors %v, cut %v", got.Errors, got.Cut)
	}
	i := slices.IndexFunc(got.Links, func(l flight.Link) bool { return l.Name == "net1" })
	if i < 0 || got.Links[i].Kind != "veth" || got.Links[i].MTU != 1400 || !got.Links[i].Up || got.Links[i].MAC == "" {
		t.Errorf("links are %+v", got.Links)
	}
	has := func(list []string, want string) {
		t.Helper()
		if !slices.Contains(list, want) {
			t.Errorf("%q is not in %q", want, list)
		}
	}
	has(got.Addresses, "net1 192.0.2.1/24")
	has(got.Routes, "192.0.2.0/24 dev net1 table 254 src 192.0.2.1")
	has(got.Routes, "default via 192.0.2.1 dev net1 table 100")
	has(got.Rules, "32765: from 192.0.2.1/24 lookup 100")
}

// TestLookIsBounded: a pod can have any number of routes; a picture cannot.
func TestLookIsBounded(t *testing.T) {
	ns := netnstest.Pod(t)
	h := netnstest.Handle(t, ns)
	for range 40 {
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: netnstest.Name("near")}, PeerName: netnstest.Name("far")}); err != nil {
			t.Fatal(err)
		}
	}
	if got := flight.Look(ns); len(got.Links) != 64 || !got.Cut {
		t.Errorf("%d links, cut %v; want 64 and cut", len(got.Links), got.Cut)
	}
}

func TestLookSaysWhatCannotBeRead(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := flight.Look(f); len(got.Errors) != 1 || !strings.Contains(got.Errors[0], "netlink") {
		t.Errorf("errors are %v", got.Errors)
	}
}
