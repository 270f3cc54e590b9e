package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/cni/refusal"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// bridgeMode is IFLA_MACVLAN_MODE bridge.
var bridgeMode = []netns.Attr{{Type: unix.IFLA_MACVLAN_MODE, Value: []byte{4, 0, 0, 0}}}

func dial(t testing.TB, ns *os.File) *netns.Conn {
	t.Helper()
	c, err := netns.Dial(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func spec(name string, master netlink.Link) netns.Spec {
	return netns.Spec{
		Name: name, Kind: "macvlan", Parent: master.Attrs().Index, ParentInHost: true,
		Mark: netns.Mark("c0ffee", "blue/storage", name), Data: bridgeMode,
		Setup: netns.Setup{Up: true, Vouched: true},
	}
}

func owner(s netns.Spec) netns.Owner { return netns.Owner{Name: s.Name, Kind: s.Kind, Mark: s.Mark} }

func address(s string) cni.Address { return cni.Address{Prefix: netip.MustParsePrefix(s)} }

func route(dst, via string) cni.Route {
	r := cni.Route{Dst: netip.MustParsePrefix(dst)}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

// state prints a link of ns as a second library sees it: line by line the link,
// its addresses, and its routes of the main table.
func state(t *testing.T, ns *os.File, name string) string {
	t.Helper()
	h := netnstest.Handle(t, ns)
	l := netnstest.Link(t, h, name)
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s mtu %d up %v\n", l.Attrs().Name, l.Type(), l.Attrs().MTU, l.Attrs().Flags&1 != 0)
	addrs, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			fmt.Fprintf(&out, "addr %s nodad %v tentative %v\n", a.IPNet, a.Flags&unix.IFA_F_NODAD != 0, a.Flags&unix.IFA_F_TENTATIVE != 0)
		}
	}
	routes, err := h.RouteList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_STATIC {
			fmt.Fprintf(&out, "route %s via %s metric %d mtu %d\n", r.Dst, r.Gw, r.Priority, r.MTU)
		}
	}
	return out.String()
}

func TestCreate(t *testing.T) {
	metric := route("10.9.0.0/16", "10.1.0.254")
	metric.Priority, metric.MTU = 77, 1400
	tests := map[string]struct {
		setup netns.Setup
		want  string
	}{
		"layer 2 only": {
			netns.Setup{Up: true},
			"IF macvlan mtu 1500 up true\n",
		},
		"left down": {
			netns.Setup{MTU: 1400},
			"IF macvlan mtu 1400 up false\n",
		},
		"IPv4": {
			netns.Setup{Up: true, Addresses: []cni.Address{address("10.1.0.5/24")}, Routes: []cni.Route{route("0.0.0.0/0", "10.1.0.254"), metric, route("10.8.0.0/16", "")}},
			"IF macvlan mtu 1500 up true\naddr 10.1.0.5/24 nodad false tentative false\n" +
				"route 0.0.0.0/0 via 10.1.0.254 metric 0 mtu 0\nroute 10.8.0.0/16 via <nil> metric 0 mtu 0\nroute 10.9.0.0/16 via 10.1.0.254 metric 77 mtu 1400\n",
		},
		"dual stack, vouched": {
			netns.Setup{Up: true, Vouched: true, Addresses: []cni.Address{address("10.1.0.5/24"), address("2001:db8::5/64")}, Routes: []cni.Route{route("0.0.0.0/0", "10.1.0.254"), route("::/0", "2001:db8::1")}},
			"IF macvlan mtu 1500 up true\naddr 10.1.0.5/24 nodad false tentative false\naddr 2001:db8::5/64 nodad true tentative false\n" +
				"route 0.0.0.0/0 via 10.1.0.254 metric 0 mtu 0\nroute ::/0 via 2001:db8::1 metric 1024 mtu 0\n",
		},
		"IPv6, checked": {
			netns.Setup{Up: true, Addresses: []cni.Address{address("2001:db8::6/64")}},
			"IF macvlan mtu 1500 up true\naddr 2001:db8::6/64 nodad false tentative false\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master, _ := netnstest.Veth(t)
			pod := netnstest.Pod(t)
			s := spec("net1", master)
			s.Setup = test.setup
			c := dial(t, pod)
			l, err := c.Create(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Replace(test.want, "IF", "net1", 1), state(t, pod, "net1")); diff != "" {
				t.Errorf("kernel (-want +got):\n%s", diff)
			}
			if l.Name != "net1" || l.Kind != "macvlan" || l.Alias != s.Mark || l.Group != netns.Group || l.Parent != master.Attrs().Index || l.Up() != test.setup.Up {
				t.Errorf("observed %+v", l)
			}
			if _, err := netnstest.Handle(t, nil).LinkByIndex(l.Index); err == nil {
				t.Error("the link is on the host too")
			}
			if _, err := c.Remove(context.Background(), owner(s)); err != nil {
				t.Fatal(err)
			}
			netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
		})
	}
}

// TestCreateEnablesIPv6WhereThePodHasItDisabled: by the namespace's default, on its
// loopback, on both, on none.
func TestCreateEnablesIPv6WhereThePodHasItDisabled(t *testing.T) {
	const conf = "/proc/sys/net/ipv6/conf/"
	for _, off := range [][]string{nil, {"default"}, {"lo"}, {"default", "lo"}} {
		t.Run(strings.Join(off, " "), func(t *testing.T) {
			master, _ := netnstest.Veth(t)
			pod := netnstest.Pod(t)
			err := netns.Do(pod, func() (err error) {
				for _, where := range off {
					err = errors.Join(err, os.WriteFile(conf+where+"/disable_ipv6", []byte("1"), 0))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			s := spec("net1", master)
			s.Setup.Addresses = []cni.Address{address("2001:db8::5/64")}
			if _, err := dial(t, pod).Create(context.Background(), s); err != nil {
				t.Fatal(err)
			}
			if got := state(t, pod, "net1"); !strings.Contains(got, "addr 2001:db8::5/64 nodad true") {
				t.Errorf("kernel has\n%s", got)
			}
			err = netns.Do(pod, func() error {
				for _, where := range []string{"lo", "net1"} {
					if now, err := os.ReadFile(conf + where + "/disable_ipv6"); err != nil || string(now) != "0\n" {
						t.Errorf("%s: disable_ipv6 %q, %v", where, now, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCreateRefusals(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	c := dial(t, pod)
	foreign := spec("net1", master)
	foreign.Mark = "someone else's"
	if _, err := c.Create(context.Background(), foreign); err != nil {
		t.Fatal(err)
	}
	before := state(t, pod, "net1")

	taken := spec("net1", master)
	taken.Setup.Addresses = []cni.Address{address("10.1.0.5/24")}
	if _, err := c.Create(context.Background(), taken); !errors.Is(err, netns.ErrNameTaken) {
		t.Errorf("name taken: %v", err)
	}
	if got := state(t, pod, "net1"); got != before {
		t.Errorf("the other link was changed:\n%s", cmp.Diff(before, got))
	}

	big := spec("net2", master)
	big.Setup.MTU = 9000
	_, err := c.Create(context.Background(), big)
	var refused *netns.Error
	if !errors.As(err, &refused) || refused.Op != "create" || refused.Errno != unix.EINVAL {
		t.Errorf("MTU above the parent's: %v", err)
	}
	unknown := spec("net2", master)
	unknown.Kind = "nosuchkind"
	_, err = c.Create(context.Background(), unknown)
	if !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), "Unknown device type") {
		t.Errorf("unknown kind must carry the kernel's text: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Create(ended, spec("net2", master)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net2")
}

func TestManyRoutesGoOutInSeveralCalls(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	s := spec("net1", master)
	s.Setup.Addresses = []cni.Address{address("10.1.0.5/24")}
	for i := range 300 {
		s.Setup.Routes = append(s.Setup.Routes, route(fmt.Sprintf("172.16.%d.%d/32", i/200, i%200), "10.1.0.254"))
	}
	if _, err := dial(t, pod).Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(state(t, pod, "net1"), "route "); got != 300 {
		t.Errorf("%d routes, want 300", got)
	}
}

func TestInvariant3RemoveKnowsWhatIsOurs(t *testing.T) {
	master, _ := netnstest.Veth(t)
	tests := map[string]struct {
		change func(h *netlink.Handle, l netlink.Link) error
		index  bool // whether the index was recorded
		stays  bool
	}{
		"complete":                 {func(*netlink.Handle, netlink.Link) error { return nil }, true, false},
		"killed before the record": {func(*netlink.Handle, netlink.Link) error { return nil }, false, false},
		"killed before the mark":   {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetAlias(l, "") }, false, false},
		"renamed by the pod":       {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetName(l, "data0") }, true, false},
		"renamed, not recorded":    {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetName(l, "data0") }, false, false},
		"mark changed by the pod":  {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetAlias(l, "uplink") }, true, false},
		"someone else's":           {func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetAlias(l, "theirs") }, false, true},
		"no mark, not in the group": {func(h *netlink.Handle, l netlink.Link) error {
			return errors.Join(h.LinkSetAlias(l, ""), h.LinkSetGroup(l, 0))
		}, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := netnstest.Pod(t)
			c, h := dial(t, pod), netnstest.Handle(t, pod)
			s := spec("net1", master)
			l, err := c.Create(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(h, netnstest.Link(t, h, "net1")); err != nil {
				t.Fatal(err)
			}
			o := owner(s)
			if test.index {
				o.Index = l.Index
			}
			for try := range 2 { // the second finds it done
				removed, err := c.Remove(context.Background(), o)
				if err != nil || removed != (try == 0 && !test.stays) {
					t.Fatalf("Remove number %d: %v, %v", try, removed, err)
				}
			}
			if _, err := h.LinkByIndex(l.Index); (err == nil) != test.stays {
				t.Errorf("after Remove: %v, link to stay: %v", err, test.stays)
			}
		})
	}
}

func TestRemoveLeavesAnotherKindOfThatNameAlone(t *testing.T) {
	pod := netnstest.Pod(t)
	h := netnstest.Handle(t, pod)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "net1"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "other"}); err != nil {
		t.Fatal(err)
	}
	l := netnstest.Link(t, h, "net1")
	if _, err := dial(t, pod).Remove(context.Background(), netns.Owner{Name: "net1", Kind: "macvlan", Mark: "m", Index: l.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	netnstest.Link(t, h, "net1")
}

func TestRemoveGroup(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	c, h := dial(t, pod), netnstest.Handle(t, pod)
	for i := range 4 {
		if _, err := c.Create(context.Background(), spec(fmt.Sprintf("net%d", i), master)); err != nil {
			t.Fatal(err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0p"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.RemoveGroup(); err != nil {
			t.Fatal(err)
		}
	}
	links, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	if diff := cmp.Diff([]string{"lo", "eth0p", "eth0"}, names); diff != "" {
		t.Errorf("links left (-want +got):\n%s", diff)
	}
}

func TestMoveThereAndBack(t *testing.T) {
	master, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	host, inside := dial(t, nil), dial(t, pod)
	name := master.Attrs().Name
	if err := host.Move(master.Attrs().Index, pod, netns.Target{Name: "net1", MAC: "02:00:00:00:00:07", MTU: 1450}); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, nil), name)
	l, err := inside.LinkByName("net1")
	if err != nil || l.MAC != "02:00:00:00:00:07" || l.MTU != 1450 || l.Up() {
		t.Fatalf("in the pod: %+v, %v", l, err)
	}
	setup := netns.Setup{MAC: "02:00:00:00:00:08", Up: true, Vouched: true, Addresses: []cni.Address{address("10.1.0.5/24"), address("2001:db8::5/64")}, Routes: []cni.Route{route("0.0.0.0/0", "10.1.0.254"), route("::/0", "2001:db8::1")}}
	for range 2 { // Configure may be repeated
		if l, err = inside.Configure(context.Background(), l.Index, setup); err != nil || l.MAC != setup.MAC || !l.Up() {
			t.Fatalf("configured: %+v, %v", l, err)
		}
	}
	want := "net1 veth mtu 1450 up true\naddr 10.1.0.5/24 nodad false tentative false\naddr 2001:db8::5/64 nodad true tentative false\n" +
		"route 0.0.0.0/0 via 10.1.0.254 metric 0 mtu 0\nroute ::/0 via 2001:db8::1 metric 1024 mtu 0\n"
	if diff := cmp.Diff(want, state(t, pod, "net1")); diff != "" {
		t.Errorf("kernel (-want +got):\n%s", diff)
	}
	if err := inside.Move(l.Index, nil, netns.Target{Name: name}); err != nil {
		t.Fatal(err)
	}
	netnstest.Absent(t, netnstest.Handle(t, pod), "net1")
	if l, err := host.LinkByName(name); err != nil || l.Up() {
		t.Errorf("back on the host: %+v, %v", l, err)
	}
}

func TestMoveToATakenNameMovesNothing(t *testing.T) {
	one, _ := netnstest.Veth(t)
	two, _ := netnstest.Veth(t)
	pod := netnstest.Pod(t)
	host := dial(t, nil)
	if err := host.Move(one.Attrs().Index, pod, netns.Target{Name: "net1"}); err != nil {
		t.Fatal(err)
	}
	err := host.Move(two.Attrs().Index, pod, netns.Target{Name: "net1"})
	if !errors.Is(err, netns.ErrNameTaken) {
		t.Errorf("move to a taken name: %v", err)
	}
	l, err := host.LinkByIndex(two.Attrs().Index)
	if err != nil || l.Name != two.Attrs().Name {
		t.Errorf("the link: %+v, %v", l, err)
	}
}

func TestLinkByAlternativeName(t *testing.T) {
	master, _ := netnstest.Veth(t)
	long := master.Attrs().Name + ".storage-fabric-left-hand-side"
	if err := netnstest.Handle(t, nil).LinkAddAltName(master, long); err != nil {
		t.Fatal(err)
	}
	l, err := dial(t, nil).LinkByName(long)
	if err != nil || l.Name != master.Attrs().Name || !cmp.Equal(l.AltNames, []string{long}) {
		t.Errorf("LinkByName(%s) = %+v, %v", long, l, err)
	}
	if _, err := dial(t, nil).LinkByName("nosuch0"); !errors.Is(err, netns.ErrNotFound) {
		t.Errorf("LinkByName of none: %v", err)
	}
	if _, err := dial(t, nil).LinkByIndex(987654); !errors.Is(err, netns.ErrNotFound) {
		t.Errorf("LinkByIndex of none: %v", err)
	}
}

func TestDefaultRouteLink(t *testing.T) {
	pod := netnstest.Pod(t)
	c := dial(t, pod)
	if _, err := c.DefaultRouteLink(); !errors.Is(err, netns.ErrNotFound) {
		t.Errorf("without a default route: %v", err)
	}
	master, _ := netnstest.Veth(t)
	s := spec("net1", master)
	s.Setup.Addresses = []cni.Address{address("2001:db8::5/64")}
	s.Setup.Routes = []cni.Route{route("::/0", "2001:db8::1")}
	l, err := c.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	if index, err := c.DefaultRouteLink(); err != nil || index != l.Index {
		t.Errorf("DefaultRouteLink() = %d, %v, want %d", index, err, l.Index)
	}
}

// TestChildrenSeesIntoOtherPods: what rides on a master is known wherever it is,
// so that a refusal can name it.
func TestChildrenSeesIntoOtherPods(t *testing.T) {
	master, _ := netnstest.Veth(t)
	host := dial(t, nil)
	want := map[string]bool{}
	for range 2 {
		pod := netnstest.Pod(t)
		s := spec("net1", master)
		s.Mark = netns.Mark(pod.Name(), "blue/storage", netnstest.Name("net"))
		want[s.Mark] = true
		if _, err := dial(t, pod).Create(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		for range 2 { // known already is fine
			if err := host.Know(pod); err != nil {
				t.Fatal(err)
			}
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Alias = netnstest.Name("own"), master.Attrs().Index, "on the host"
	h := netnstest.Handle(t, nil)
	own := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := errors.Join(h.LinkAdd(own), h.LinkSetAlias(own, "on the host")); err != nil {
		t.Fatal(err)
	}
	want["on the host"] = true
	other, _ := netnstest.Veth(t)
	if _, err := dial(t, netnstest.Pod(t)).Create(context.Background(), spec("net1", other)); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	children, err := host.Children(master.Attrs().Index, "macvlan")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range children {
		got[l.Alias] = true
	}
	if diff := cmp.Diff(want, got); diff != "" || len(children) != 3 {
		t.Errorf("children of the master (-want +got):\n%s", diff)
	}
}

func TestIdentify(t *testing.T) {
	pod := netnstest.Pod(t)
	n, err := netns.Identify(pod)
	var st unix.Stat_t
	if err != nil || unix.Fstat(int(pod.Fd()), &st) != nil || n.Inode != st.Ino || n.Device != uint64(st.Dev) || n.Path != pod.Name() {
		t.Errorf("Identify() = %+v, %v", n, err)
	}
	own, err := netns.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	_, err = netns.Identify(own)
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Field != "CNI_NETNS" {
		t.Errorf("the host's own namespace: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "absent"), file, fifo, "/proc/999999999/ns/net"} {
		if _, err := netns.Open(path); !errors.Is(err, netns.ErrGone) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	var r *refusal.Refusal
	if _, err := netns.Open("/proc/self/ns/mnt"); !errors.As(err, &r) {
		t.Errorf("a mount namespace: %v", err)
	}
}

func TestReopenRefusesAReusedPath(t *testing.T) {
	pods := []*os.File{netnstest.Pod(t), netnstest.Pod(t)}
	link := filepath.Join(t.TempDir(), "netns")
	at := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
	if err := os.Symlink(at(pods[0]), link); err != nil {
		t.Fatal(err)
	}
	n, err := netns.Identify(pods[0])
	if err != nil {
		t.Fatal(err)
	}
	n.Path = link
	f, err := netns.Reopen(n)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := errors.Join(os.Remove(link), os.Symlink(at(pods[1]), link)); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Reopen(n); !errors.Is(err, netns.ErrGone) {
		t.Errorf("a path with another namespace: %v", err)
	}
}

func TestNoThreadStaysInAPod(t *testing.T) {
	pod := netnstest.Pod(t)
	var g sync.WaitGroup
	for range 50 {
		g.Go(func() {
			err := netns.Do(pod, func() error {
				_, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	var st unix.Stat_t
	if err := unix.Fstat(int(pod.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		var at unix.Stat_t
		if unix.Stat(task, &at) == nil && at.Ino == st.Ino {
			t.Errorf("%s is in the pod", task)
		}
	}
}

func TestMarkFitsTheKernel(t *testing.T) {
	long := strings.Repeat("n", 253)
	marks := map[string]bool{}
	for _, network := range []string{"blue/a", long + "/a", long + "/b"} {
		m := netns.Mark(strings.Repeat("c", 64), network, "net1")
		if len(m) > 255 || marks[m] {
			t.Errorf("mark %q: %d bytes, seen before %v", m, len(m), marks[m])
		}
		marks[m] = true
	}
}

// TestSocketsOfTheHostAreUsedAgain: by one Conn at a time, also when another is
// closed twice.
func TestSocketsOfTheHostAreUsedAgain(t *testing.T) {
	first, err := netns.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.LinkByIndex(1); !errors.Is(err, unix.EBADF) {
		t.Errorf("a closed one answers: %v", err)
	}
	var g sync.WaitGroup
	for range 16 {
		g.Go(func() {
			for range 50 {
				c, err := netns.Dial(nil)
				if err != nil {
					t.Error(err)
					return
				}
				if l, err := c.LinkByIndex(1); err != nil || l.Name != "lo" {
					t.Errorf("%s, %v", l.Name, err)
				}
				_, _ = c.LinkByName("nosuch0")
				_ = c.Close()
				_ = c.Close()
			}
		})
	}
	g.Wait()
}

// TestSocketOfAPodIsNeverTheHosts: whoever asks for the host's from inside a pod is
// told so, or gets the host's.
func TestSocketOfAPodIsNeverTheHosts(t *testing.T) {
	master, _ := netnstest.Veth(t)
	held := make([]*netns.Conn, 8) // so that nothing is left to be used again
	for i := range held {
		held[i] = dial(t, nil)
	}
	err := netns.Do(netnstest.Pod(t), func() error {
		c, err := netns.Dial(nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.LinkByIndex(master.Attrs().Index)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("error %v", err)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for range 16 {
		if _, err := dial(t, nil).LinkByIndex(master.Attrs().Index); err != nil {
			t.Errorf("a socket that is not the host's: %v", err)
		}
	}
}
