package cni_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func one(t *testing.T, ifName string) (cni.Request, netconf.Network, netconf.Element) {
	t.Helper()
	n, err := netconf.ParseNetwork("test", []byte(`{"cniVersion":"1.0.0","name":"extra","type":"macvlan","master":"m0","ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	r := request("c1")
	r.IfName = ifName
	return r, n, netconf.Element{IPs: []string{"203.0.113.5"}}
}

func TestOneNetworkMoreBelongsToThePod(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	r, n, el := one(t, "hot0")
	for range 2 { // the second time it is there
		res, err := e.AttachOne(context.Background(), r, n, el)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.IPs) != 1 || res.IPs[0].Address.IP.String() != "203.0.113.5" {
			t.Errorf("result is %v", res)
		}
	}
	if d := cmp.Diff(sorted(attachedWorld+"c1/hot0: macvlan  203.0.113.5/29\n"), w.String()); d != "" {
		t.Error(d)
	}
	if err := e.Plug(context.Background(), w.annotated("fast,storage@store0,signal"), noRuntime); err != nil || w.links["c1/hot0"] == "" {
		t.Errorf("the annotation took it away (%v)", err)
	}
	if err := e.Del(context.Background(), request("c1")); err != nil || w.String() != "" {
		t.Errorf("deleting the pod left (%v)\n%s", err, w)
	}
}

// TestOneNetworkIntoAnotherPod: what is made in a namespace is found there at DEL.
func TestOneNetworkIntoAnotherPod(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	w.inode = 43
	r, n, el := one(t, "hot0")
	var refused *refusal.Refusal
	if _, err := e.AttachOne(context.Background(), r, n, el); !errors.As(err, &refused) || refused.Field != "CNI_NETNS" || w.links["c1/hot0"] != "" {
		t.Errorf("error = %v, want a refusal of CNI_NETNS; there is\n%s", err, w)
	}
}

func TestOneNetworkLess(t *testing.T) {
	w := standard(t)
	e := w.engine()
	added(t, w, e)
	r, _, _ := one(t, "store0")
	for range 2 { // absent is done
		if err := e.DetachOne(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	if w.links["c1/store0"] != "" || len(w.links) != 3 {
		t.Errorf("the pod has\n%s", w)
	}
	var refused *refusal.Refusal
	r.IfName = "eth0"
	if err := e.DetachOne(context.Background(), r); !errors.As(err, &refused) || w.links["c1/eth0"] == "" {
		t.Errorf("error = %v, want a refusal for the default network", err)
	}
}

func TestOneNetworkOfASandboxThatIsNotThere(t *testing.T) {
	w := standard(t)
	r, n, el := one(t, "hot0")
	var refused *refusal.Refusal
	if _, err := w.engine().AttachOne(context.Background(), r, n, el); !errors.As(err, &refused) || w.String() != "" {
		t.Errorf("error = %v, want a refusal; there is\n%s", err, w)
	}
}

// TestOneNetworkMoreLeavesTheDefaultRoute: another network of the pod provides it.
func TestOneNetworkMoreLeavesTheDefaultRoute(t *testing.T) {
	w, e, routes := routed(t, `[{"name":"storage","default-route":["192.0.2.6"]}]`)
	added(t, w, e)
	r, _, _ := one(t, "hot0")
	n, err := netconf.ParseNetwork("test", []byte(`{"cniVersion":"1.0.0","name":"extra","type":"macvlan","master":"m0","ipam":{"type":"host-local","subnet":"203.0.113.0/29","routes":[{"dst":"0.0.0.0/0"}]}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	routes.routes = append(routes.routes, "4 hot0 203.0.113.1") // what the driver makes of the network's route
	if _, err := e.AttachOne(context.Background(), r, n, netconf.Element{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"4 net1 192.0.2.6"}, routes.routes); d != "" {
		t.Error(d)
	}
	if got := w.shown(); got != "net1 192.0.2.6" {
		t.Errorf("network-status has gateways %q", got)
	}
}
