package hostdevice_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/hostdevice"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

func TestMain(m *testing.M) {
	if os.Getenv("TENDRIL_LAB_GUEST") != "" {
		os.Exit(m.Run()) // the machine is this test's own, NICs included
	}
	netnstest.Main(m)
}

var (
	_   cni.Driver = (*hostdevice.Driver)(nil)
	ctx            = context.Background()
)

func driver() *hostdevice.Driver { return hostdevice.New(slog.New(slog.DiscardHandler)) }

func named(dev netlink.Link) cni.Attachment {
	return netnstest.Attachment("host-device", `{"device":"`+dev.Attrs().Name+`"}`)
}

func TestThereAndBack(t *testing.T) {
	for name, conf := range map[string]func(l netlink.Link) string{
		"by name": func(l netlink.Link) string { return `{"device":"` + l.Attrs().Name + `"}` },
		"by MAC":  func(l netlink.Link) string { return `{"hwaddr":"` + l.Attrs().HardwareAddr.String() + `"}` },
	} {
		t.Run(name, func(t *testing.T) {
			dev, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			host, inside := netnstest.Handle(t, nil), netnstest.Handle(t, pod)
			if err := host.LinkSetAlias(dev, "uplink to rack 7"); err != nil {
				t.Fatal(err)
			}
			a := netnstest.Attachment("host-device", conf(dev))
			a.MAC = "02:00:00:00:00:07"
			a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.7.0.5/24")}}
			r := netnstest.MustAttach(t, d, pod, a)
			l := netnstest.Link(t, inside, "net1")
			netnstest.Absent(t, host, dev.Attrs().Name)
			if r.Link.MAC != a.MAC || l.Attrs().HardwareAddr.String() != a.MAC {
				t.Errorf("observed %+v", r.Link)
			}
			if err := d.Check(ctx, pod, r); err != nil {
				t.Error(err)
			}
			// The pod does as it likes.
			if err := errors.Join(inside.LinkSetDown(l), inside.LinkSetName(l, "mine"), inside.LinkSetMTU(l, 1300), inside.SetPromiscOn(l)); err != nil {
				t.Fatal(err)
			}
			if err := d.Check(ctx, pod, r); err == nil {
				t.Error("Check sees no difference")
			}
			for range 2 {
				if err := d.Detach(ctx, pod, r); err != nil {
					t.Fatal(err)
				}
			}
			back := netnstest.Link(t, host, dev.Attrs().Name).Attrs()
			if back.MTU != 1500 || back.HardwareAddr.String() != dev.Attrs().HardwareAddr.String() || back.Alias != "uplink to rack 7" || back.Flags&1 == 0 || back.Promisc != 0 {
				t.Errorf("came back as %+v", back)
			}
		})
	}
}

// TestInvariant3DetachOfAnIntent: the daemon died with the device marked and not
// moved, and with it moved and not recorded.
func TestInvariant3DetachOfAnIntent(t *testing.T) {
	for name, stop := range map[string]bool{"before the move": true, "after the move": false} {
		t.Run(name, func(t *testing.T) {
			dev, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			a := named(dev)
			if stop {
				a.IfName = "lo" // the move is refused: the name is taken
			}
			r, err := netnstest.Attach(d, pod, a)
			if (err != nil) != stop {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Detach(ctx, pod, cni.Record{Attachment: r.Attachment, Prior: r.Prior}); err != nil {
					t.Fatal(err)
				}
			}
			if l := netnstest.Link(t, netnstest.Handle(t, nil), dev.Attrs().Name); l.Attrs().Alias != "" {
				t.Errorf("came back as %+v", l.Attrs())
			}
		})
	}
}

// TestPodThatMarksItsDeviceAnew: what it may do to its own interface must not keep
// the device in a namespace that takes it along.
func TestPodThatMarksItsDeviceAnew(t *testing.T) {
	for _, alias := range []string{"mine", ""} {
		t.Run("alias "+alias, func(t *testing.T) {
			dev, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			host, inside := netnstest.Handle(t, nil), netnstest.Handle(t, pod)
			r := netnstest.MustAttach(t, d, pod, named(dev))
			l := netnstest.Link(t, inside, "net1")
			if err := errors.Join(inside.LinkSetAlias(l, alias), inside.LinkSetDown(l), inside.LinkSetName(l, "mine")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Detach(ctx, pod, r); err != nil {
					t.Fatal(err)
				}
			}
			if back := netnstest.Link(t, host, dev.Attrs().Name).Attrs(); back.Alias != "" {
				t.Errorf("came back as %+v", back)
			}
		})
	}
}

// TestPodThatGivesItsDeviceOtherNames: alternative names go with a device, and the
// kernel moves none to where one of them is taken. The pod's are not the host's.
func TestPodThatGivesItsDeviceOtherNames(t *testing.T) {
	dev, _ := netnstest.Veth(t)
	other, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	host, inside := netnstest.Handle(t, nil), netnstest.Handle(t, pod)
	if err := host.LinkAddAltName(dev, "own"); err != nil {
		t.Fatal(err)
	}
	r := netnstest.MustAttach(t, d, pod, named(dev))
	l := netnstest.Link(t, inside, "net1")
	if err := errors.Join(inside.LinkAddAltName(l, other.Attrs().Name), inside.LinkAddAltName(l, "mine"), inside.LinkDelAltName(l, "own")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Detach(ctx, pod, r); err != nil {
			t.Fatal(err)
		}
	}
	if got := netnstest.Link(t, host, dev.Attrs().Name).Attrs().AltNames; !slices.Equal(got, []string{"own"}) {
		t.Errorf("alternative names %v, want its own", got)
	}
}

// TestForeignDeviceOfTheNameStays: a late Detach finds the name in other hands.
func TestForeignDeviceOfTheNameStays(t *testing.T) {
	dev, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	r := netnstest.MustAttach(t, d, pod, named(dev))
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	other := netnstest.Pod(t)
	again := named(dev)
	netnstest.MustAttach(t, d, other, again)
	for _, ns := range []*os.File{pod, other, nil} {
		if err := d.Detach(ctx, ns, r); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Link(t, netnstest.Handle(t, other), "net1")
}

func TestNameTakenOnTheHost(t *testing.T) {
	dev, _ := netnstest.Veth(t)
	taker, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	r := netnstest.MustAttach(t, d, pod, named(dev))
	host := netnstest.Handle(t, nil)
	if err := errors.Join(host.LinkSetDown(taker), host.LinkSetName(taker, dev.Attrs().Name)); err != nil {
		t.Fatal(err)
	}
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
	links, err := host.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().HardwareAddr.String() == dev.Attrs().HardwareAddr.String() && l.Attrs().Alias == "" {
			return
		}
	}
	t.Error("the device is not back")
}

func TestInvariant7UplinkStays(t *testing.T) {
	dev, _ := netnstest.Veth(t)
	host := netnstest.Handle(t, nil)
	addr, _ := netlink.ParseAddr("192.0.2.2/24")
	route := &netlink.Route{LinkIndex: dev.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}
	if err := host.AddrAdd(dev, addr); err != nil {
		t.Fatal(err)
	}
	if routes, err := host.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST); err == nil && len(routes) > 0 {
		// A machine has its own.
		if dev, err = host.LinkByIndex(routes[0].LinkIndex); err != nil {
			t.Fatal(err)
		}
	} else if err := host.RouteAdd(route); err != nil {
		t.Fatal(err)
	} else {
		t.Cleanup(func() { _ = host.RouteDel(route) })
	}
	_, err := driver().Prior(ctx, named(dev))
	netnstest.Refused(t, err, "device", dev.Attrs().Name, "default route")
}

func TestInvariant9Refusals(t *testing.T) {
	for name, test := range map[string]struct{ conf, field string }{
		"none":       {`{}`, "device"},
		"unknown":    {`{"device":"nosuch0"}`, "device"},
		"loopback":   {`{"device":"lo"}`, "device"},
		"MAC":        {`{"hwaddr":"02:00:00:00:ff:ff"}`, "hwaddr"},
		"bad MAC":    {`{"hwaddr":"banana"}`, "hwaddr"},
		"path":       {`{"kernelpath":"/etc"}`, "kernelpath"},
		"escape":     {`{"kernelpath":"/sys/devices/../../etc"}`, "kernelpath"},
		"PCI":        {`{"pciBusID":"0000:ff:1f.7"}`, "pciBusID"},
		"PCI escape": {`{"pciBusID":"../../x"}`, "pciBusID"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := driver().Prior(ctx, netnstest.Attachment("host-device", test.conf))
			netnstest.Refused(t, err, test.field)
		})
	}
}
