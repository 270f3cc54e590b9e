//go:build lab

// These tests need a kernel with ipvlan. The lab's machine has one:
//
//	go test -tags lab -exec "<lab> exec" ./cni/ipvlan

package ipvlan_test

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// attach does what the engine does: prior, record, attach.
func attach(d cni.Driver, ns *os.File, a cni.Attachment) (cni.Record, error) {
	r := cni.Record{Attachment: a, Phase: cni.Intent}
	var err error
	if r.Prior, err = d.Prior(ctx, a); err != nil {
		return r, err
	}
	if r.Link, err = d.Attach(ctx, ns, r); err != nil {
		return r, err
	}
	r.Phase = cni.Attached
	return r, nil
}

func mustAttach(t testing.TB, d cni.Driver, ns *os.File, a cni.Attachment) cni.Record {
	t.Helper()
	r, err := attach(d, ns, a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addresses(ps ...string) (as []cni.Address) {
	for _, p := range ps {
		as = append(as, cni.Address{Prefix: netip.MustParsePrefix(p)})
	}
	return as
}

func TestAttachDetach(t *testing.T) {
	for name, test := range map[string]struct {
		conf    string
		mode    netlink.IPVlanMode
		mtu     int
		gateway string // of the default route as the kernel has it
	}{
		"defaults": {`{"master":"%s"}`, netlink.IPVLAN_MODE_L2, 1500, "10.1.0.1"},
		"l3":       {`{"master":"%s","mode":"l3","mtu":1400}`, netlink.IPVLAN_MODE_L3, 1400, "<nil>"},
		"l3s":      {`{"master":"%s","mode":"l3s"}`, netlink.IPVLAN_MODE_L3S, 1500, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			a := attachment(test.conf, master.Attrs().Name)
			a.Addresses = addresses("10.1.0.5/24", "2001:db8::5/64")
			a.Routes = []cni.Route{
				{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")},
				{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1")},
			}
			r := mustAttach(t, d, pod, a)
			h := netnstest.Handle(t, pod)
			l := netnstest.Link(t, h, "net1").(*netlink.IPVlan)
			if l.Mode != test.mode || l.Flags&1 == 0 || l.ParentIndex != master.Attrs().Index {
				t.Errorf("kernel has %+v", l)
			}
			want := cni.Link{Name: "net1", Index: l.Index, MAC: master.Attrs().HardwareAddr.String(), MTU: test.mtu}
			if diff := cmp.Diff(want, r.Link); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
			routes, err := h.RouteList(l, netlink.FAMILY_V4)
			if err != nil {
				t.Fatal(err)
			}
			for _, route := range routes {
				if ones, _ := route.Dst.Mask.Size(); ones == 0 && route.Gw.String() != test.gateway {
					t.Errorf("default route via %v, want %s", route.Gw, test.gateway)
				}
			}
			for range 2 { // the second finds it done
				if err := d.Detach(ctx, pod, r); err != nil {
					t.Fatal(err)
				}
			}
			netnstest.Absent(t, h, "net1")
		})
	}
}

func TestLayer2OnlyNeedsNoAddress(t *testing.T) {
	master, _ := netnstest.Veth(t)
	mustAttach(t, driver(), netnstest.Pod(t), attachment(`{"master":"%s","ipam":{}}`, master.Attrs().Name))
}

// TestInvariant3ModeOfOlderChildrenStays is invariant 3 of this package.
func TestInvariant3ModeOfOlderChildrenStays(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	first := attachment(`{"master":"%s","mode":"l3"}`, master.Attrs().Name)
	first.Network = "red/backup"
	mustAttach(t, d, pod, first)
	_, err := attach(d, netnstest.Pod(t), attachment(`{"master":"%s"}`, master.Attrs().Name))
	refused(t, err, "mode", "l2", "l3", master.Attrs().Name, "red/backup")
	if l := netnstest.Link(t, netnstest.Handle(t, pod), "net1").(*netlink.IPVlan); l.Mode != netlink.IPVLAN_MODE_L3 {
		t.Errorf("the older child has mode %v now", l.Mode)
	}
}

func TestAddressOfAnotherChildIsRefused(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d := driver()
	a := attachment(`{"master":"%s"}`, master.Attrs().Name)
	a.Addresses = addresses("10.1.0.5/24")
	mustAttach(t, d, netnstest.Pod(t), a)
	a.ContainerID = "another"
	pod := netnstest.Pod(t)
	r, err := attach(d, pod, a)
	refused(t, err, "ips", "10.1.0.5/24", master.Attrs().Name)
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
}

func TestMasterWithMacvlanIsRefused(t *testing.T) {
	master, _ := netnstest.Veth(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = netnstest.Name("mv"), master.Attrs().Index
	if err := netnstest.Handle(t, nil).LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		t.Fatal(err)
	}
	_, err := attach(driver(), netnstest.Pod(t), attachment(`{"master":"%s"}`, master.Attrs().Name))
	refused(t, err, "master", master.Attrs().Name, attrs.Name)
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("the kernel's answer is not in %v", err)
	}
}

// TestInvariant3DetachOfAnIntent: the daemon died before it could record.
func TestInvariant3DetachOfAnIntent(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	r := mustAttach(t, d, pod, attachment(`{"master":"%s"}`, master.Attrs().Name))
	foreign := r
	foreign.Attachment.ContainerID = "another"
	foreign.Link = cni.Link{}
	if err := d.Detach(ctx, pod, foreign); err != nil {
		t.Fatal(err)
	}
	h := netnstest.Handle(t, pod)
	netnstest.Link(t, h, "net1") // another's intent leaves it alone
	if err := d.Detach(ctx, pod, cni.Record{Attachment: r.Attachment, Phase: cni.Intent, Prior: r.Prior}); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, h, "net1")
}

func TestSixtyFourPodsAtOnce(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d := driver()
	var g sync.WaitGroup
	for i := range 64 {
		pod := netnstest.Pod(t)
		g.Go(func() {
			a := attachment(`{"master":"%s"}`, master.Attrs().Name)
			a.Addresses = []cni.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), 24)}}
			r, err := attach(d, pod, a)
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
}
