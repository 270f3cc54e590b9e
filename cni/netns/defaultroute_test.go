package netns_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

var _ cni.DefaultRoutes = netns.Defaults{}

// twoLinks is a pod with eth0, on the default network with routes of both
// families, and net1 with addresses alone.
func twoLinks(t *testing.T) *os.File {
	t.Helper()
	pod := netnstest.Pod(t)
	c := dial(t, pod)
	for _, l := range []struct {
		name      string
		addresses []cni.Address
		routes    []cni.Route
	}{
		{"eth0", []cni.Address{address("192.0.2.2/24"), address("2001:db8:a::2/64")}, []cni.Route{route("0.0.0.0/0", "192.0.2.1"), route("::/0", "2001:db8:a::1")}},
		{"net1", []cni.Address{address("198.51.100.2/24"), address("2001:db8:b::2/64")}, []cni.Route{route("203.0.113.0/24", "198.51.100.9")}},
	} {
		master, _ := netnstest.Veth(t)
		s := spec(l.name, master)
		s.Setup.Addresses, s.Setup.Routes = l.addresses, l.routes
		if _, err := c.Create(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	return pod
}

// defaultsOf prints the default routes of the main table as another library sees
// them.
func defaultsOf(t *testing.T, pod *os.File) string {
	t.Helper()
	h := netnstest.Handle(t, pod)
	var out []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones > 0 {
					continue
				}
			}
			for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw}) {
				if hop.LinkIndex == 0 {
					continue
				}
				l, err := h.LinkByIndex(hop.LinkIndex)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, fmt.Sprintf("%s via %v metric %d", l.Attrs().Name, hop.Gw, r.Priority))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func gateway(ifName, via string) cni.Gateway {
	return cni.Gateway{IfName: ifName, Via: netip.MustParseAddr(via)}
}

const (
	eth0v4 = "eth0 via 192.0.2.1 metric 0"
	eth0v6 = "eth0 via 2001:db8:a::1 metric 1024"
	net1v4 = "net1 via 198.51.100.1 metric 0"
	net1v6 = "net1 via 2001:db8:b::1 metric 1024"
)

func TestDefaultRoutesMoveAndComeBack(t *testing.T) {
	for name, c := range map[string]struct {
		want []cni.Gateway
		then string
	}{
		"IPv4": {[]cni.Gateway{gateway("net1", "198.51.100.1")}, eth0v6 + ", " + net1v4},
		"IPv6": {[]cni.Gateway{gateway("net1", "2001:db8:b::1")}, eth0v4 + ", " + net1v6},
		"both": {[]cni.Gateway{gateway("net1", "198.51.100.1"), gateway("net1", "2001:db8:b::1")}, net1v4 + ", " + net1v6},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, d, pod := context.Background(), netns.Defaults{}, twoLinks(t)
			note, err := d.Prior(ctx, pod, c.want)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // what is there is done
				if err := d.Set(ctx, pod, c.want); err != nil {
					t.Fatal(err)
				}
				if got := defaultsOf(t, pod); got != c.then {
					t.Errorf("default routes are %s, want %s", got, c.then)
				}
			}
			// net1 goes, and its routes with it.
			if _, err := dial(t, pod).Remove(ctx, netns.Owner{Name: "net1", Kind: "macvlan", Mark: netns.Mark("c0ffee", "blue/storage", "net1")}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Restore(ctx, pod, note); err != nil {
					t.Fatal(err)
				}
			}
			if got := defaultsOf(t, pod); got != eth0v4+", "+eth0v6 {
				t.Errorf("after the way back the default routes are %s", got)
			}
		})
	}
}

// TestDefaultRouteIsTheOnlyOne: whatever metric another one has, and though the
// kernel joins IPv6 routes of equal metric, one is left.
func TestDefaultRouteIsTheOnlyOne(t *testing.T) {
	ctx, pod := context.Background(), twoLinks(t)
	h := netnstest.Handle(t, pod)
	net1 := netnstest.Link(t, h, "net1")
	for _, r := range []netlink.Route{
		{LinkIndex: net1.Attrs().Index, Gw: []byte{198, 51, 100, 9}, Priority: 50},
		{LinkIndex: net1.Attrs().Index, Gw: netip.MustParseAddr("2001:db8:b::9").AsSlice(), Priority: 1024},
	} {
		if err := h.RouteAppend(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := (netns.Defaults{}).Set(ctx, pod, []cni.Gateway{gateway("net1", "198.51.100.1"), gateway("net1", "2001:db8:b::1")}); err != nil {
		t.Fatal(err)
	}
	if got := defaultsOf(t, pod); got != net1v4+", "+net1v6 {
		t.Errorf("default routes are %s", got)
	}
}

func TestDefaultRouteNotesSurviveTheJournal(t *testing.T) {
	ctx, d, pod := context.Background(), netns.Defaults{}, twoLinks(t)
	want := []cni.Gateway{gateway("net1", "198.51.100.1"), gateway("net1", "2001:db8:b::1")}
	note, err := d.Prior(ctx, pod, want)
	if err != nil {
		t.Fatal(err)
	}
	var copied json.RawMessage
	if err := json.Unmarshal(note, &copied); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(note), string(copied)); d != "" {
		t.Error(d)
	}
	// By the time of the way back eth0 has no address, then it is gone: there is
	// nobody to restore, and nothing that may hold up a detach.
	h := netnstest.Handle(t, pod)
	eth0 := netnstest.Link(t, h, "eth0")
	for _, text := range []string{"192.0.2.2/24", "2001:db8:a::2/64"} {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.AddrDel(eth0, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Restore(ctx, pod, note); err != nil {
		t.Error(err)
	}
	c := dial(t, pod)
	for _, name := range []string{"eth0", "net1"} {
		if _, err := c.Remove(ctx, netns.Owner{Name: name, Kind: "macvlan", Mark: netns.Mark("c0ffee", "blue/storage", name)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Restore(ctx, pod, note); err != nil {
		t.Error(err)
	}
}

func TestInvariant9DefaultRouteOutOfReach(t *testing.T) {
	pod := twoLinks(t)
	err := netns.Defaults{}.Set(context.Background(), pod, []cni.Gateway{gateway("net1", "10.9.9.9")})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != "default-route" || !strings.Contains(err.Error(), "10.9.9.9") {
		t.Errorf("error = %v", err)
	}
	if got := defaultsOf(t, pod); got != eth0v4+", "+eth0v6 {
		t.Errorf("a refused gateway changed the default routes: %s", got)
	}
}
