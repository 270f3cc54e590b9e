package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/bridge"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	_   cni.Driver = (*bridge.Driver)(nil)
	ctx            = context.Background()
)

func driver() *bridge.Driver { return bridge.New(slog.New(slog.DiscardHandler)) }

// attachment fills the bridge's name in for %s, and gives addresses.
func attachment(t *testing.T, conf string, addresses ...string) (cni.Attachment, string) {
	t.Helper()
	name := netnstest.Name("br")
	t.Cleanup(func() {
		h := netnstest.Handle(t, nil)
		for _, l := range []string{name, name + ".7"} {
			if l, err := h.LinkByName(l); err == nil {
				_ = h.LinkDel(l)
			}
		}
	})
	return complete(t, with(netnstest.Attachment("bridge", fmt.Sprintf(conf, name)), addresses...)), name
}

// complete is what the callers of the driver do before they record.
func complete(t *testing.T, a cni.Attachment) cni.Attachment {
	t.Helper()
	a, err := driver().Completed(a)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func with(a cni.Attachment, addresses ...string) cni.Attachment {
	for _, p := range addresses {
		a.Addresses = append(a.Addresses, cni.Address{Prefix: netip.MustParsePrefix(p)})
	}
	return a
}

// hostPort returns the host's end of the pod's pair.
func hostPort(t *testing.T, d *bridge.Driver, r cni.Record) netlink.Link {
	t.Helper()
	links, err := d.HostLinks(r)
	if err != nil {
		t.Fatal(err)
	}
	return netnstest.Link(t, netnstest.Handle(t, nil), links[1].Name)
}

func TestAttachDetach(t *testing.T) {
	pod, d := netnstest.Pod(t), driver()
	a, name := attachment(t, `{"bridge":"%s","isDefaultGateway":true,"hairpinMode":true,"mtu":1400,"portIsolation":true}`, "10.3.0.5/24", "2001:db8::5/64")
	a.MAC = "02:00:00:00:00:05"
	r := netnstest.MustAttach(t, d, pod, a)

	host, inside := netnstest.Handle(t, nil), netnstest.Handle(t, pod)
	br, port := netnstest.Link(t, host, name), hostPort(t, d, r)
	if port.Attrs().MasterIndex != br.Attrs().Index || port.Attrs().MTU != 1400 || port.Attrs().OperState != netlink.OperUp {
		t.Errorf("port is %+v", port.Attrs())
	}
	if p, err := host.LinkGetProtinfo(port); err != nil || !p.Hairpin || !p.Isolated {
		t.Errorf("port has %+v, %v", p, err)
	}
	if r.Link.MAC != a.MAC || r.Link.MTU != 1400 {
		t.Errorf("observed %+v", r.Link)
	}
	for family, want := range map[int]string{netlink.FAMILY_V4: "10.3.0.1", netlink.FAMILY_V6: "2001:db8::1"} {
		addrs, err := host.AddrList(br, family)
		if err != nil || !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.String() == want }) {
			t.Errorf("bridge has %v, %v; want %s", addrs, err, want)
		}
		routes, err := inside.RouteList(nil, family)
		if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == want }) {
			t.Errorf("pod has routes %v, %v; want a default one via %s", routes, err, want)
		}
	}
	if err := d.Check(ctx, pod, r); err != nil {
		t.Error(err)
	}
	if err := host.LinkSetNoMaster(port); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctx, pod, r); err == nil {
		t.Error("Check does not see that the port left the bridge")
	}
	for range 2 {
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Absent(t, inside, "net1")
	netnstest.Absent(t, host, port.Attrs().Name)
	netnstest.Link(t, host, name) // the bridge is everybody's
}

func TestBridgeKeepsItsMAC(t *testing.T) {
	d := driver()
	a, name := attachment(t, `{"bridge":"%s"}`)
	host := netnstest.Handle(t, nil)
	first := netnstest.MustAttach(t, d, netnstest.Pod(t), a)
	mac := netnstest.Link(t, host, name).Attrs().HardwareAddr.String()
	b := a
	b.ContainerID, b.MAC = "another", "02:00:00:00:00:00"
	pod := netnstest.Pod(t)
	b.MAC = "02:00:00:00:00:01" // lower than any random one
	netnstest.MustAttach(t, d, pod, b)
	if err := d.Detach(ctx, nil, first); err != nil {
		t.Fatal(err)
	}
	if now := netnstest.Link(t, host, name).Attrs().HardwareAddr.String(); now != mac {
		t.Errorf("bridge's MAC was %s, is %s", mac, now)
	}
}

// TestDetachWithoutThePod: the namespace is gone as far as anyone can see, but
// something holds it, so the pair is still there.
func TestDetachWithoutThePod(t *testing.T) {
	pod, d := netnstest.Pod(t), driver()
	a, _ := attachment(t, `{"bridge":"%s"}`)
	r := netnstest.MustAttach(t, d, pod, a)
	port := hostPort(t, d, r)
	if err := d.Detach(ctx, nil, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, nil), port.Attrs().Name)
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
}

// TestInvariant3DetachOfAnIntent: the daemon died before it could record, at
// several points of the kernel's work.
func TestInvariant3DetachOfAnIntent(t *testing.T) {
	for name, partly := range map[string]func(h *netlink.Handle, port netlink.Link) error{
		"complete":   func(*netlink.Handle, netlink.Link) error { return nil },
		"unplugged":  func(h *netlink.Handle, port netlink.Link) error { return h.LinkSetNoMaster(port) },
		"not marked": func(h *netlink.Handle, port netlink.Link) error { return h.LinkSetAlias(port, "") },
	} {
		t.Run(name, func(t *testing.T) {
			pod, d := netnstest.Pod(t), driver()
			a, _ := attachment(t, `{"bridge":"%s"}`)
			r := netnstest.MustAttach(t, d, pod, a)
			host, port := netnstest.Handle(t, nil), hostPort(t, d, r)
			if err := partly(host, port); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Detach(ctx, pod, cni.Record{Attachment: r.Attachment, Phase: cni.Intent, Prior: r.Prior}); err != nil {
					t.Fatal(err)
				}
			}
			netnstest.Absent(t, host, port.Attrs().Name)
			netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
		})
	}
}

func TestInvariant9Refusals(t *testing.T) {
	master, _ := netnstest.Veth(t)
	plain, _ := attachment(t, `{"bridge":"%s"}`)
	netnstest.MustAttach(t, driver(), netnstest.Pod(t), plain)
	exists := strings.TrimSuffix(strings.TrimPrefix(string(plain.Config.Plugins[0].Raw), `{"bridge":"`), `"}`)
	tests := map[string]struct {
		conf, field string
		words       []string
	}{
		"not a bridge": {`{"bridge":"` + master.Attrs().Name + `"}`, "bridge", []string{"veth"}},
		"no filtering": {`{"bridge":"` + exists + `","vlan":5}`, "vlan", []string{"vlan_filtering"}},
		"vlan":         {`{"vlan":4095}`, "vlan", []string{"0..4094"}},
		"trunk":        {`{"vlanTrunk":[{"minID":9,"maxID":3}]}`, "vlanTrunk[0].maxID", []string{"9..4094"}},
		"half a trunk": {`{"vlanTrunk":[{"minID":9}]}`, "vlanTrunk[0].maxID", nil},
		"both modes":   {`{"hairpinMode":true,"promiscMode":true}`, "promiscMode", nil},
		"mtu":          {`{"mtu":-1}`, "mtu", []string{"-1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := driver().Prior(ctx, netnstest.Attachment("bridge", test.conf))
			netnstest.Refused(t, err, test.field, test.words...)
		})
	}
}

func TestGatewayInTheWay(t *testing.T) {
	d := driver()
	a, name := attachment(t, `{"bridge":"%s","isGateway":true}`, "10.4.0.5/24")
	netnstest.MustAttach(t, d, netnstest.Pod(t), a)
	b := complete(t, with(netnstest.Attachment("bridge", fmt.Sprintf(`{"bridge":"%s","isGateway":true}`, name)), "10.5.0.5/24"))
	pod := netnstest.Pod(t)
	r, err := netnstest.Attach(d, pod, b)
	netnstest.Refused(t, err, "ipam gateway", "10.5.0.1/24", "10.4.0.1/24", "forceAddress")
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")

	b = complete(t, with(netnstest.Attachment("bridge", fmt.Sprintf(`{"bridge":"%s","isGateway":true,"forceAddress":true}`, name)), "10.5.0.5/24"))
	netnstest.MustAttach(t, d, netnstest.Pod(t), b)
	host := netnstest.Handle(t, nil)
	addrs, err := host.AddrList(netnstest.Link(t, host, name), netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IP.String() != "10.5.0.1" {
		t.Errorf("bridge has %v, %v", addrs, err)
	}
}

func TestNetworkWithoutAddressesIsUp(t *testing.T) {
	for conf, up := range map[string]bool{`{"bridge":"%s"}`: true, `{"bridge":"%s","disableContainerInterface":true}`: false} {
		pod := netnstest.Pod(t)
		a, _ := attachment(t, conf)
		netnstest.MustAttach(t, driver(), pod, a)
		if l := netnstest.Link(t, netnstest.Handle(t, pod), "net1"); l.Attrs().Flags&net.FlagUp != 0 != up {
			t.Errorf("%s: flags %v", conf, l.Attrs().Flags)
		}
	}
}

func TestSixtyFourPodsMakeOneBridge(t *testing.T) {
	d := driver()
	a, name := attachment(t, `{"bridge":"%s","isGateway":true}`)
	var pods []*os.File
	for range 64 {
		pods = append(pods, netnstest.Pod(t))
	}
	var g sync.WaitGroup
	for i, pod := range pods {
		b := complete(t, with(a, fmt.Sprintf("10.6.0.%d/24", i+2)))
		g.Go(func() {
			b.ContainerID = fmt.Sprint("c", i)
			r, err := netnstest.Attach(d, pod, b)
			if err != nil {
				t.Errorf("pod %d: %v", i, err)
				return
			}
			if err := d.Detach(ctx, pod, r); err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
		})
	}
	g.Wait()
	h := netnstest.Handle(t, nil)
	br, links := netnstest.Link(t, h, name), 0
	all, err := h.LinkList()
	for _, l := range all {
		if l.Attrs().MasterIndex == br.Attrs().Index {
			links++
		}
	}
	if err != nil || links != 0 {
		t.Errorf("%d ports left, %v", links, err)
	}
}
