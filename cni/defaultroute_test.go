package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
)

// table is a pod's table of default routes: what the kernel would do.
type table struct {
	*world
	routes   []string // "family interface gateway"
	restored []string
}

func family(g cni.Gateway) string {
	if g.Via.Is4() {
		return "4"
	}
	return "6"
}

func (r *table) Prior(_ context.Context, _ *os.File, want []cni.Gateway) (json.RawMessage, error) {
	var others []string
	for _, route := range r.routes {
		if slices.ContainsFunc(want, func(g cni.Gateway) bool { return strings.HasPrefix(route, family(g)) }) {
			others = append(others, route)
		}
	}
	if others == nil {
		return nil, nil
	}
	return json.Marshal(others)
}

func (r *table) Set(_ context.Context, _ *os.File, want []cni.Gateway) error {
	if err := r.point("route"); err != nil {
		return err
	}
	for _, g := range want {
		r.routes = slices.DeleteFunc(r.routes, func(route string) bool { return strings.HasPrefix(route, family(g)) })
		r.routes = append(r.routes, fmt.Sprintf("%s %s %s", family(g), g.IfName, g.Via))
	}
	return nil
}

func (r *table) Restore(_ context.Context, _ *os.File, note json.RawMessage) error {
	var routes []string
	if err := json.Unmarshal(note, &routes); err != nil {
		return err
	}
	r.restored = append(r.restored, routes...)
	return nil
}

// routed is the standard pod with its macvlan given those default-route keys,
// the macvlan's network having an IPv4 gateway of its own.
func routed(t *testing.T, networks string) (*world, *cni.Engine, *table) {
	w := standard(t)
	w.nads["blue/storage"] = cni.Definition{Namespace: "blue", Name: "storage", Config: `{"cniVersion":"1.0.0","type":"macvlan","master":"m0",
		"ipam":{"type":"host-local","ranges":[[{"subnet":"192.0.2.0/29"}],[{"subnet":"2001:db8::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"203.0.113.0/24"}]}}`}
	w.nads["blue/outside"] = cni.Definition{Namespace: "blue", Name: "outside", Config: `{"cniVersion":"1.0.0","type":"vendor"}`}
	w.pod(networks)
	e := w.engine()
	r := &table{world: w, routes: []string{"4 eth0 10.244.1.1"}}
	e.DefaultRoutes = r
	return w, e, r
}

// shown is what network-status says of gateways.
func (w *world) shown() string {
	var out []string
	for _, s := range w.status["blue/p"] {
		if len(s.Gateway) > 0 {
			out = append(out, s.Interface+" "+strings.Join(s.Gateway, ","))
		}
	}
	return strings.Join(out, "; ")
}

func TestDefaultRouteMovesPerFamily(t *testing.T) {
	for name, c := range map[string]struct{ networks, routes, shown, result string }{
		"nobody asks": {`[{"name":"storage"}]`, "4 eth0 10.244.1.1", "eth0 10.244.1.1; net1 192.0.2.1", "10.244.1.1"},
		"IPv4":        {`[{"name":"storage","default-route":["192.0.2.6"]}]`, "4 net1 192.0.2.6", "net1 192.0.2.6", ""},
		"IPv6":        {`[{"name":"storage","default-route":["2001:db8::9"]}]`, "4 eth0 10.244.1.1, 6 net1 2001:db8::9", "eth0 10.244.1.1; net1 192.0.2.1,2001:db8::9", "10.244.1.1"},
		"both": {`[{"name":"storage","default-route":["192.0.2.6","fe80::1"]}]`,
			"4 net1 192.0.2.6, 6 net1 fe80::1", "net1 192.0.2.6,fe80::1", ""},
		"one each": {`[{"name":"storage","default-route":["192.0.2.6"]},{"name":"outside","default-route":["2001:db8::9"]}]`,
			"4 net1 192.0.2.6, 6 net2 2001:db8::9", "net1 192.0.2.6; net2 2001:db8::9", ""},
		"a foreign one": {`[{"name":"storage"},{"name":"outside","default-route":["10.244.1.77"]}]`, "4 net2 10.244.1.77", "net2 10.244.1.77", ""},
		// [] asks for nothing: everyone keeps what its own network gives it.
		"empty": {`[{"name":"storage","default-route":[]}]`, "4 eth0 10.244.1.1", "eth0 10.244.1.1; net1 192.0.2.1", "10.244.1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			w, e, r := routed(t, c.networks)
			res, err := e.Add(context.Background(), request("c1"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.routes, ", "); got != c.routes {
				t.Errorf("default routes are %q, want %q", got, c.routes)
			}
			if got := w.shown(); got != c.shown {
				t.Errorf("network-status has gateways %q, want %q", got, c.shown)
			}
			var gateways []string
			for _, rt := range res.Routes {
				gateways = append(gateways, rt.GW.String())
			}
			if got := strings.Join(gateways, ","); got != c.result {
				t.Errorf("the runtime is told of default routes via %q, want %q", got, c.result)
			}
		})
	}
}

func TestDefaultRouteThatFailsIsRolledBack(t *testing.T) {
	w, e, _ := routed(t, `[{"name":"storage","default-route":["192.0.2.6"]}]`)
	w.fail["route"] = errors.New("kernel says no")
	if _, err := e.Add(context.Background(), request("c1")); err == nil || !strings.Contains(err.Error(), "kernel says no") {
		t.Errorf("error = %v", err)
	}
	if w.String() != "" {
		t.Errorf("left over:\n%s", w)
	}
}

func TestInvariant9GatewayOutsideTheSubnet(t *testing.T) {
	w, e, _ := routed(t, `[{"name":"storage","default-route":["198.51.100.1"]}]`)
	_, err := e.Add(context.Background(), request("c1"))
	for _, part := range []string{"blue/p", "blue/storage", "default-route", "198.51.100.1", "192.0.2.0/29"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
	if len(w.steps) > 0 && slices.Contains(w.steps, "attach eth0") {
		t.Errorf("refused after something was touched: %v", w.steps)
	}
}

// TestDefaultRouteComesBack: a network that provides the default route goes while
// the pod runs.
func TestDefaultRouteComesBack(t *testing.T) {
	w, e, r := routed(t, `[{"name":"outside"}]`)
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	plug := func(networks string) {
		t.Helper()
		w.pod(networks)
		if err := e.Plug(context.Background(), w.pods["blue/p"], request("c1").Run); err != nil {
			t.Fatal(err)
		}
	}
	plug(`[{"name":"outside"},{"name":"storage","default-route":["192.0.2.6"]}]`)
	if d := cmp.Diff([]string{"4 net2 192.0.2.6"}, r.routes); d != "" {
		t.Fatal(d)
	}
	if got := w.shown(); got != "net2 192.0.2.6" {
		t.Errorf("network-status has gateways %q", got)
	}
	plug(`[{"name":"outside"}]`)
	if d := cmp.Diff([]string{"4 eth0 10.244.1.1"}, r.restored); d != "" {
		t.Error(d)
	}
	if got := w.shown(); !strings.HasPrefix(got, "eth0 10.244.1.1") {
		t.Errorf("network-status has gateways %q", got)
	}
}

// TestMendedInterfaceLeavesTheDefaultRoute: its own network has one too, which the
// driver makes; another network of the pod provides the pod's.
func TestMendedInterfaceLeavesTheDefaultRoute(t *testing.T) {
	w, e, r := routed(t, `[{"name":"storage"},{"name":"outside","default-route":["10.244.1.77"]}]`)
	added(t, w, e)
	records, err := e.Records()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(records, func(rec cni.Record) bool { return rec.Attachment.IfName == "net1" })
	delete(w.links, "c1/net1")
	err = e.Mend(context.Background(), records[i], func(ctx context.Context, ns *os.File, d cni.Driver, rec cni.Record) (cni.Record, error) {
		for _, route := range rec.Attachment.Routes {
			if route.Dst.Bits() == 0 {
				r.routes = append(r.routes, "4 net1 "+route.Via.String())
			}
		}
		_, err := d.Attach(ctx, ns, rec)
		return rec, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"4 net2 10.244.1.77"}, r.routes); d != "" {
		t.Error(d)
	}
}
