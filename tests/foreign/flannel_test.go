package foreign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// leaseOfFlanneld is what flanneld writes for the plugin on each node.
const leaseOfFlanneld = `FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_IPV6_NETWORK=fd00:244::/56
FLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`

// overlay is a node whose default network is Flannel's, as its manifest configures
// it, with a macvlan for the pod beside it.
type overlay struct {
	*sweep.Stand
	t                *testing.T
	shim, path, dirs string
}

func newOverlay(t *testing.T) *overlay {
	t.Helper()
	master, _ := netnstest.Veth(t)
	o := &overlay{t: t, dirs: t.TempDir()}
	var err error
	if o.path, err = plugins(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.shim = buildShim(t)
	sys := filepath.Join(o.dirs, "sys")
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.Stand = sweep.NewStand(t, sweep.Scene{
		Sysfs: sys, Annotation: "one",
		Definitions: map[string]string{"one": fmt.Sprintf(`{"cniVersion":"1.0.0","type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"192.0.2.0/29"}}`, master.Attrs().Name)},
		Default: fmt.Sprintf(`{"name":"cbr0","cniVersion":"0.3.1","plugins":[
			{"type":"flannel","subnetFile":%q,"dataDir":%q,"ipam":{"dataDir":%q},"delegate":{"hairpinMode":true,"isDefaultGateway":true}},
			{"type":"portmap","capabilities":{"portMappings":true}}]}`, o.file("subnet.env"), o.file("flannel"), o.file("host-local")),
	})
	v := o.Start("", -1)
	t.Cleanup(func() { o.Stop(v) })
	return o
}

func (o *overlay) file(name string) string { return filepath.Join(o.dirs, name) }

// flanneld writes what the plugin needs, or takes it away.
func (o *overlay) flanneld(runs bool) {
	o.t.Helper()
	err := os.Remove(o.file("subnet.env"))
	if runs {
		err = os.WriteFile(o.file("subnet.env"), []byte(leaseOfFlanneld), 0o644)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.t.Fatal(err)
	}
}

// call has the shim make a call for the pod.
func (o *overlay) call(command string) (*current.Result, *types.Error) {
	o.t.Helper()
	return executed{o.t, o.shim, o.path, shimConfig(o.Stand)}.call(command, "c1", o.Pod)
}

func (o *overlay) must(command string) *current.Result {
	o.t.Helper()
	result, failure := o.call(command)
	if failure != nil {
		o.t.Fatalf("%s: %v", command, failure)
	}
	return result
}

// empty wants nothing left of the pod: no interface, no port of the bridge, no
// address, none of Flannel's own notes.
func (o *overlay) empty() {
	o.t.Helper()
	links, err := netnstest.Handle(o.t, o.Pod).LinkList()
	if err != nil || len(links) != 1 {
		o.t.Errorf("the pod has %d links (%v), want lo alone", len(links), err)
	}
	for _, pattern := range []string{"host-local/*/10.*", "host-local/*/fd00*", "flannel/*"} {
		if left, _ := filepath.Glob(o.file(pattern)); len(left) > 0 {
			o.t.Errorf("left: %v", left)
		}
	}
	h := netnstest.Handle(o.t, nil)
	bridge, err := h.LinkByName("cni0")
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return // it comes with the first pod
	}
	if links, err = h.LinkList(); err != nil {
		o.t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			o.t.Errorf("the bridge still has the port %s", l.Attrs().Name)
		}
	}
}

// TestFlannelIsTheDefaultNetwork: a pod has Flannel's address in both families,
// its MTU and its routes, beside its own network, and gives all back though
// flanneld is gone.
func TestFlannelIsTheDefaultNetwork(t *testing.T) {
	o := newOverlay(t)
	o.flanneld(true)
	result := o.must("ADD")
	var addresses []string
	for _, ip := range result.IPs {
		addresses = append(addresses, ip.Address.String())
	}
	if got, want := strings.Join(addresses, " "), "10.244.1.2/24 fd00:244:0:1::2/64"; got != want {
		t.Errorf("the runtime was told %s, want %s", got, want)
	}
	h := netnstest.Handle(t, o.Pod)
	eth0 := netnstest.Link(t, h, "eth0")
	if eth0.Attrs().MTU != 1450 || eth0.Type() != "veth" {
		t.Errorf("eth0 is a %s with MTU %d, want flanneld's 1450", eth0.Type(), eth0.Attrs().MTU)
	}
	netnstest.Link(t, h, "net1")
	routes, err := h.RouteList(eth0, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, r := range routes {
		seen = append(seen, fmt.Sprintf("%v via %v", r.Dst, r.Gw))
	}
	for _, want := range []string{"10.244.0.0/16 via 10.244.1.1", "0.0.0.0/0 via 10.244.1.1"} {
		if !strings.Contains(strings.Join(seen, "\n"), want) {
			t.Errorf("no route %s: %v", want, seen)
		}
	}
	o.must("CHECK")
	o.flanneld(false)
	for range 2 { // a runtime may say it twice
		o.must("DEL")
	}
	o.empty()
}

// TestInvariant1WithoutFlanneldThePodDoesNotStart, with its own network or without,
// and starts when flanneld is there.
func TestInvariant1WithoutFlanneldThePodDoesNotStart(t *testing.T) {
	o := newOverlay(t)
	_, failure := o.call("ADD")
	if failure == nil || !strings.Contains(failure.Msg, "subnet.env") || !strings.Contains(failure.Msg, "cbr0") {
		t.Errorf("ADD without flanneld said %v, want Flannel's own words and the network's name", failure)
	}
	o.empty()
	o.must("DEL")
	o.flanneld(true)
	o.must("ADD")
	o.must("DEL")
	o.empty()
}
