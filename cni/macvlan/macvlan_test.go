package macvlan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/macvlan"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var _ cni.Driver = (*macvlan.Driver)(nil)

func driver() *macvlan.Driver { return macvlan.New(slog.New(slog.DiscardHandler)) }

var ctx = context.Background()

// attachment is a pod's net1 on network blue/storage with that configuration.
func attachment(conf string, args ...any) cni.Attachment {
	raw := json.RawMessage(fmt.Sprintf(conf, args...))
	return cni.Attachment{
		ContainerID: netnstest.Name("container"), IfName: "net1", Pod: cni.PodRef{Namespace: "blue", Name: "web"},
		Network: "blue/storage", Kind: cni.KindMacvlan,
		Config:  netconf.Network{Name: "storage", CNIVersion: "1.0.0", Plugins: []netconf.Plugin{{Type: "macvlan", Raw: raw}}},
		Vouched: true,
	}
}

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

// refused checks that err is a refusal of field and that its text has the words.
func refused(t *testing.T, err error, field string, words ...string) {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != field || r.Object == "" || r.Allowed == "" {
		t.Errorf("got %v, want a refusal of field %s", err, field)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
}

func child(t *testing.T, ns *os.File) *netlink.Macvlan {
	t.Helper()
	return netnstest.Link(t, netnstest.Handle(t, ns), "net1").(*netlink.Macvlan)
}

func TestAttachDetach(t *testing.T) {
	tests := map[string]struct {
		conf  string // %s is the master
		mac   string
		mode  netlink.MacvlanMode
		mtu   int
		queue uint32
	}{
		"defaults": {conf: `{"master":"%s"}`, mode: netlink.MACVLAN_MODE_BRIDGE, mtu: 1500},
		"private":  {conf: `{"master":"%s","mode":"private","mtu":1400}`, mode: netlink.MACVLAN_MODE_PRIVATE, mtu: 1400},
		"vepa":     {conf: `{"master":"%s","mode":"vepa"}`, mode: netlink.MACVLAN_MODE_VEPA, mtu: 1500},
		"passthru": {conf: `{"master":"%s","mode":"passthru"}`, mode: netlink.MACVLAN_MODE_PASSTHRU, mtu: 1500},
		"queue":    {conf: `{"master":"%s","bcqueuelen":5000}`, mode: netlink.MACVLAN_MODE_BRIDGE, mtu: 1500, queue: 5000},
		"mac":      {conf: `{"master":"%s","mac":"02:00:00:00:00:01"}`, mode: netlink.MACVLAN_MODE_BRIDGE, mtu: 1500, mac: "02:00:00:00:00:01"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			a := attachment(test.conf, master.Attrs().Name)
			a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}, {Prefix: netip.MustParsePrefix("2001:db8::5/64")}}
			a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}}
			r := mustAttach(t, d, pod, a)

			l := child(t, pod)
			if l.Mode != test.mode || l.MTU != test.mtu || l.Flags&1 == 0 || test.queue != 0 && l.BCQueueLen != test.queue || test.mac != "" && l.HardwareAddr.String() != test.mac {
				t.Errorf("kernel has %+v", l)
			}
			want := cni.Link{Name: "net1", Index: l.Index, MAC: l.HardwareAddr.String(), MTU: test.mtu}
			if diff := cmp.Diff(want, r.Link); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
			addrs, err := netnstest.Handle(t, pod).AddrList(l, netlink.FAMILY_ALL)
			if err != nil || len(addrs) != 3 { // and the link-local one
				t.Errorf("addresses %v, %v", addrs, err)
			}
			for range 2 { // the second finds it done
				if err := d.Detach(ctx, pod, r); err != nil {
					t.Fatal(err)
				}
			}
			netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
		})
	}
}

func TestMacOfTheAttachmentWins(t *testing.T) {
	master, _ := netnstest.Veth(t)
	a := attachment(`{"master":"%s","mac":"02:00:00:00:00:01"}`, master.Attrs().Name)
	a.MAC = "02:00:00:00:00:02"
	if r := mustAttach(t, driver(), netnstest.Pod(t), a); r.Link.MAC != a.MAC {
		t.Errorf("MAC %s, want %s", r.Link.MAC, a.MAC)
	}
}

func TestMasterByAlternativeName(t *testing.T) {
	master, _ := netnstest.Veth(t)
	alt := master.Attrs().Name + "-storage-fabric-a"
	if err := netnstest.Handle(t, nil).LinkAddAltName(master, alt); err != nil {
		t.Fatal(err)
	}
	pod := netnstest.Pod(t)
	mustAttach(t, driver(), pod, attachment(`{"master":"%s"}`, alt))
	if l := child(t, pod); l.ParentIndex != master.Attrs().Index {
		t.Errorf("parent %d, want %d", l.ParentIndex, master.Attrs().Index)
	}
}

// TestMasterInThePod: linkInContainer, and the default route, of which a test may
// have one of its own in the pod's namespace.
func TestMasterInThePod(t *testing.T) {
	for name, conf := range map[string]string{
		"by name":          `{"linkInContainer":true,"master":"eth0"}`,
		"by default route": `{"linkInContainer":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			pod, d := netnstest.Pod(t), driver()
			host, err := netns.Dial(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			if err := host.Move(master.Attrs().Index, pod, netns.Target{Name: "eth0"}); err != nil {
				t.Fatal(err)
			}
			h := netnstest.Handle(t, pod)
			eth0 := netnstest.Link(t, h, "eth0")
			addr, _ := netlink.ParseAddr("10.2.0.2/24")
			if err := errors.Join(h.LinkSetUp(eth0), h.AddrAdd(eth0, addr), h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(10, 2, 0, 1)})); err != nil {
				t.Fatal(err)
			}
			r := mustAttach(t, d, pod, attachment("%s", conf))
			if l := child(t, pod); l.ParentIndex != eth0.Attrs().Index {
				t.Errorf("parent %d, want %d", l.ParentIndex, eth0.Attrs().Index)
			}
			if err := d.Detach(ctx, pod, r); err != nil {
				t.Fatal(err)
			}
			netnstest.Absent(t, h, "net1")
		})
	}
	a := attachment(`{"linkInContainer":true,"master":"eth7"}`)
	_, err := attach(driver(), netnstest.Pod(t), a)
	refused(t, err, "master", "eth7", "in the pod")
}

func TestInvariant9PriorRefuses(t *testing.T) {
	master, _ := netnstest.Veth(t)
	name := master.Attrs().Name
	port, _ := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	br := netlink.NewLinkAttrs()
	br.Name = netnstest.Name("br")
	bridge := &netlink.Bridge{LinkAttrs: br}
	if err := errors.Join(h.LinkAdd(bridge), h.LinkSetMaster(port, bridge)); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		conf, mac, field string
		words            []string
	}{
		"master unknown":  {`{"master":"nosuch0"}`, "", "master", []string{"blue/storage", "nosuch0", "on the host", br.Name}},
		"no default":      {`{}`, "", "master", []string{"no default route"}},
		"loopback":        {`{"master":"lo"}`, "", "master", []string{"lo", "Ethernet"}},
		"bridge port":     {`{"master":"` + port.Attrs().Name + `"}`, "", "master", []string{br.Name}},
		"mtu":             {`{"master":"` + name + `","mtu":1501}`, "", "mtu", []string{"1501", "0..1500", name}},
		"mode":            {`{"master":"` + name + `","mode":"source"}`, "", "mode", []string{"source", "passthru"}},
		"multicast mac":   {`{"master":"` + name + `"}`, "03:00:00:00:00:01", "mac", []string{"03:00:00:00:00:01", "unicast"}},
		"zero mac":        {`{"master":"` + name + `"}`, "00:00:00:00:00:00", "mac", nil},
		"infiniband mac":  {`{"master":"` + name + `"}`, "02:00:00:00:00:00:00:01", "mac", nil},
		"mac in passthru": {`{"master":"` + name + `","mode":"passthru"}`, "02:00:00:00:00:01", "mac", []string{"passthru"}},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			a := attachment("%s", test.conf)
			a.MAC = test.mac
			_, err := driver().Prior(ctx, a)
			refused(t, err, test.field, test.words...)
		})
	}
}

// TestInvariant9AttachRefuses: what only the kernel finds out, after Prior. In
// each case Detach with the intent leaves the pod as it was.
func TestInvariant9AttachRefuses(t *testing.T) {
	type world struct {
		t      *testing.T
		master netlink.Link
		pod    *os.File
	}
	at := func(w world, conf string) cni.Attachment { return attachment(conf, w.master.Attrs().Name) }
	other := func(w world, conf, mac string) {
		a := at(w, conf)
		a.MAC, a.Network, a.ContainerID = mac, "red/backup", "feedface"
		mustAttach(w.t, driver(), netnstest.Pod(w.t), a)
	}
	const plain = `{"master":"%s"}`
	tests := map[string]struct {
		before func(w world) cni.Attachment
		field  string
		words  []string
	}{
		"mac of another pod": {func(w world) cni.Attachment {
			other(w, plain, "02:00:00:00:00:aa")
			a := at(w, plain)
			a.MAC = "02:00:00:00:00:aa"
			return a
		}, "mac", []string{"02:00:00:00:00:aa", "red/backup", "feedface"}},
		"mac of the master": {func(w world) cni.Attachment {
			a := at(w, plain)
			a.MAC = w.master.Attrs().HardwareAddr.String()
			return a
		}, "mac", []string{"it is the master's"}},
		"passthru beside another": {func(w world) cni.Attachment {
			other(w, plain, "")
			return at(w, `{"master":"%s","mode":"passthru"}`)
		}, "mode", []string{"passthru", "red/backup"}},
		"beside a passthru": {func(w world) cni.Attachment {
			other(w, `{"master":"%s","mode":"passthru"}`, "")
			return at(w, plain)
		}, "mode", []string{"passthru", "red/backup"}},
		"gateway off the link": {func(w world) cni.Attachment {
			a := at(w, plain)
			a.Addresses = []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24")}}
			a.Routes = []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.7.0.1")}}
			return a
		}, "ipam.routes", []string{"10.7.0.1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			w := world{t, master, netnstest.Pod(t)}
			r, err := attach(driver(), w.pod, test.before(w))
			refused(t, err, test.field, test.words...)
			if err := driver().Detach(ctx, w.pod, r); err != nil {
				t.Fatal(err)
			}
			netnstest.Absent(t, netnstest.Handle(t, w.pod), "net1")
		})
	}
}

func TestBusyMasterIsNamed(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d := driver()
	a := attachment(`{"master":"%s"}`, master.Attrs().Name)
	prior, err := d.Prior(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	// Between Prior and Attach someone makes it a bridge port.
	h := netnstest.Handle(t, nil)
	br := netlink.NewLinkAttrs()
	br.Name = netnstest.Name("br")
	bridge := &netlink.Bridge{LinkAttrs: br}
	if err := errors.Join(h.LinkAdd(bridge), h.LinkSetMaster(master, bridge)); err != nil {
		t.Fatal(err)
	}
	_, err = d.Attach(ctx, netnstest.Pod(t), cni.Record{Attachment: a, Prior: prior})
	refused(t, err, "master", master.Attrs().Name, "busy")
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("the kernel's answer is not in %v", err)
	}
}

func TestMasterGoneBeforeAttach(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d, a := driver(), attachment(`{"master":"%s"}`, master.Attrs().Name)
	prior, err := d.Prior(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if err := netnstest.Handle(t, nil).LinkDel(master); err != nil {
		t.Fatal(err)
	}
	_, err = d.Attach(ctx, netnstest.Pod(t), cni.Record{Attachment: a, Prior: prior})
	refused(t, err, "master", master.Attrs().Name, "went away")
}

func TestMasterShrunkBeforeAttach(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d, a := driver(), attachment(`{"master":"%s","mtu":1450}`, master.Attrs().Name)
	prior, err := d.Prior(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if err := netnstest.Handle(t, nil).LinkSetMTU(master, 1400); err != nil {
		t.Fatal(err)
	}
	_, err = d.Attach(ctx, netnstest.Pod(t), cni.Record{Attachment: a, Prior: prior})
	refused(t, err, "mtu", "1450", "0..1400", master.Attrs().Name)
}

func TestNameTakenIsRefusedAndSurvivesDetach(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	theirs := mustAttach(t, d, pod, attachment(`{"master":"%s"}`, master.Attrs().Name))

	r, err := attach(d, pod, attachment(`{"master":"%s"}`, master.Attrs().Name))
	refused(t, err, "interface", "blue/web", "net1")
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
	if l := child(t, pod); l.Index != theirs.Link.Index {
		t.Errorf("link %d, want the first one, %d", l.Index, theirs.Link.Index)
	}
}

func TestTheHostsNamespaceIsRefused(t *testing.T) {
	master, _ := netnstest.Veth(t)
	own, err := netns.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	_, err = attach(driver(), own, attachment(`{"master":"%s"}`, master.Attrs().Name))
	refused(t, err, "CNI_NETNS")
}

// TestInvariant3DetachOfAnIntent: the daemon died after the kernel's work and
// before the record of it; and, second, in the middle of the kernel's work.
func TestInvariant3DetachOfAnIntent(t *testing.T) {
	master, _ := netnstest.Veth(t)
	for name, partly := range map[string]func(*netlink.Handle, netlink.Link) error{
		"complete": func(*netlink.Handle, netlink.Link) error { return nil },
		"no mark, no address, down": func(h *netlink.Handle, l netlink.Link) error {
			return errors.Join(h.LinkSetAlias(l, ""), h.LinkSetDown(l))
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, d := netnstest.Pod(t), driver()
			r := mustAttach(t, d, pod, attachment(`{"master":"%s"}`, master.Attrs().Name))
			h := netnstest.Handle(t, pod)
			if err := partly(h, child(t, pod)); err != nil {
				t.Fatal(err)
			}
			intent := cni.Record{Attachment: r.Attachment, Phase: cni.Intent, Prior: r.Prior}
			for range 2 {
				if err := d.Detach(ctx, pod, intent); err != nil {
					t.Fatal(err)
				}
			}
			netnstest.Absent(t, h, "net1")
		})
	}
}

func TestInvariant2DetachNeedsNothingOfTheHost(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	r := mustAttach(t, d, pod, attachment(`{"master":"%s"}`, master.Attrs().Name))
	if err := netnstest.Handle(t, nil).LinkDel(master); err != nil {
		t.Fatal(err)
	}
	r.Attachment.Config.Plugins = nil
	for _, ns := range []*os.File{pod, nil} {
		if err := d.Detach(ctx, ns, r); err != nil {
			t.Errorf("Detach with namespace %v: %v", ns, err)
		}
	}
}

func TestSixtyFourPodsAtOnce(t *testing.T) {
	master, _ := netnstest.Veth(t)
	d := driver()
	pods := make([]*os.File, 64)
	for i := range pods {
		pods[i] = netnstest.Pod(t)
	}
	var g sync.WaitGroup
	for i, pod := range pods {
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
	for _, pod := range pods {
		links, err := netnstest.Handle(t, pod).LinkList()
		if err != nil || len(links) != 1 {
			t.Errorf("links left: %v, %v", links, err)
		}
	}
}

func TestSeveralInterfacesOfOnePodAtOnce(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod, d := netnstest.Pod(t), driver()
	var g sync.WaitGroup
	for i := range 16 {
		g.Go(func() {
			a := attachment(`{"master":"%s"}`, master.Attrs().Name)
			a.IfName = fmt.Sprintf("net%d", i)
			if _, err := attach(d, pod, a); err != nil {
				t.Errorf("%s: %v", a.IfName, err)
			}
		})
	}
	g.Wait()
	links, err := netnstest.Handle(t, pod).LinkList()
	if err != nil || len(links) != 17 {
		t.Errorf("%d links, %v; want 17 with the loopback", len(links), err)
	}
}
