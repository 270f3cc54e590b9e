package foreign

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// shared is a node whose default network is the reference's bridge with
// host-local, which the daemon serves too, and which can be called by itself.
type shared struct {
	*sweep.Stand
	t         *testing.T
	shim      executed
	reference executed
	files     string
}

const bridgeOfShared = "sharedbr0"

// newShared makes a node; behind are plugins after bridge in the list.
func newShared(t *testing.T, behind ...string) *shared {
	t.Helper()
	path, err := plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sys, files := filepath.Join(dir, "sys"), filepath.Join(dir, "cni")
	for _, d := range []string{filepath.Join(sys, "bus/pci/devices"), files} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plugin := fmt.Sprintf(`"type":"bridge","bridge":%q,"isDefaultGateway":true,"hairpinMode":true,"mtu":1400,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]],"routes":[{"dst":"192.0.2.0/24"}]}`,
		bridgeOfShared, filepath.Join(files, "networks"))
	s := &shared{t: t, files: files}
	s.Stand = sweep.NewStand(t, sweep.Scene{Sysfs: sys, Default: `{"cniVersion":"1.0.0","name":"cbr0","plugins":[` + strings.Join(append([]string{`{` + plugin + `}`}, behind...), ",") + `]}`})
	s.shim = executed{t, buildShim(t), path, shimConfig(s.Stand)}
	dirs := filepath.SplitList(path)
	s.reference = executed{t, filepath.Join(dirs[len(dirs)-1], "bridge"), path, `{"cniVersion":"1.0.0","name":"cbr0",` + plugin + `}`}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(bridgeOfShared); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	return s
}

// serve starts the daemon, which sees the address files or does not.
func (s *shared) serve(sees bool) *sweep.Victim {
	s.t.Helper()
	s.Scene.HostLocal = ""
	if sees {
		s.Scene.HostLocal = s.files
	}
	data, err := json.Marshal(s.Scene)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Write("scene.json", string(data))
	return s.Start("", -1)
}

// taken is who has an address.
func (s *shared) taken() (out []string) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.files, "networks", "cbr0", "*[.:]*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		if !strings.HasPrefix(filepath.Base(f), "last_") {
			out = append(out, filepath.Base(f)+" "+strings.Split(string(data), "\r\n")[0])
		}
	}
	return out
}

// What is made up for each pod, and what a result by the daemon says more: the MTU,
// and by which gateway a route goes that names none.
var (
	madeUp = regexp.MustCompile(`"(mac|name|sandbox)":"[^"]*"`)
	more   = regexp.MustCompile(`"mtu":1400,|("dst":"192.0.2.0/24"),"gw":"10.9.0.1"`)
)

// same wants two pods to have the same, but for addresses and what is made up.
func (s *shared) same(what string, one, other *current.Result, pods ...*os.File) {
	s.t.Helper()
	shape := func(r *current.Result) string {
		data, err := json.Marshal(r)
		if err != nil {
			s.t.Fatal(err)
		}
		out := more.ReplaceAllString(madeUp.ReplaceAllString(string(data), `"$1":""`), "$1")
		for _, ip := range r.IPs {
			out = strings.ReplaceAll(out, ip.Address.IP.String()+"/", "A/")
		}
		return out
	}
	if d := cmp.Diff(shape(one), shape(other)); d != "" {
		s.t.Errorf("%s: results differ: %s", what, d)
	}
	if d := cmp.Diff(s.inside(pods[0], one), s.inside(pods[1], other)); d != "" {
		s.t.Errorf("%s: pods differ: %s", what, d)
	}
}

// inside is the pod's interface, its routes, and the port behind it.
func (s *shared) inside(pod *os.File, r *current.Result) []string {
	s.t.Helper()
	h, host := netnstest.Handle(s.t, pod), netnstest.Handle(s.t, nil)
	eth0 := netnstest.Link(s.t, h, "eth0")
	port, err := host.LinkByIndex(eth0.Attrs().ParentIndex)
	if err != nil {
		s.t.Fatal(err)
	}
	hairpin, err := host.LinkGetProtinfo(port)
	if err != nil {
		s.t.Fatal(err)
	}
	out := []string{fmt.Sprint(eth0.Type(), eth0.Attrs().MTU, port.Attrs().MTU, port.Attrs().MasterIndex == netnstest.Link(s.t, host, bridgeOfShared).Attrs().Index, hairpin.Hairpin)}
	routes, err := h.RouteList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, rt := range routes {
		if !rt.Dst.IP.IsLinkLocalUnicast() {
			out = append(out, fmt.Sprintf("%v via %v scope %s", rt.Dst, rt.Gw, rt.Scope))
		}
	}
	addrs, err := h.AddrList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range addrs {
		if !slices.ContainsFunc(r.IPs, func(ip *current.IPConfig) bool { return ip.Address.String() == a.IPNet.String() }) && !a.IP.IsLinkLocalUnicast() {
			s.t.Errorf("%s is not of the result", a.IPNet)
		}
	}
	slices.Sort(out)
	return out
}

// TestInvariant5DefaultBridgeIsSharedWithItsPlugins: a pod from before the daemon
// served it, one that the daemon attached, and one of the reference beside it have
// the same, but each its own addresses; each can be deleted by whoever comes then.
func TestInvariant5DefaultBridgeIsSharedWithItsPlugins(t *testing.T) {
	s := newShared(t)
	before, now, after := netnstest.Pod(t), netnstest.Pod(t), netnstest.Pod(t)
	v := s.serve(false)
	older := s.shim.must("ADD", "older", before)
	s.Stop(v)
	v = s.serve(true)
	served := s.shim.must("ADD", "served", now)
	s.shim.must("CHECK", "served", now)
	beside := s.reference.must("ADD", "beside", after)
	want := []string{"10.9.0.2 older", "10.9.0.3 served", "10.9.0.4 beside", "fd00:9::2 older", "fd00:9::3 served", "fd00:9::4 beside"}
	if d := cmp.Diff(want, s.taken()); d != "" {
		t.Error(d)
	}
	s.same("by the shim and in process", older, served, before, now)
	s.same("in process and by the reference", served, beside, now, after)

	s.shim.must("DEL", "older", before) // the record says that plugins made it
	s.Stop(v)
	for range 2 {
		s.reference.must("DEL", "served", now) // Tendril was taken off
		s.reference.must("DEL", "beside", after)
	}
	if left := s.taken(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, pod := range []*os.File{before, now, after} {
		netnstest.Absent(t, netnstest.Handle(t, pod), "eth0")
	}
	v = s.serve(true)
	defer s.Stop(v)
	s.shim.must("DEL", "served", now)
	s.shim.must("ADD", "again", now)
	s.shim.must("DEL", "again", now)
	if left := s.taken(); len(left) > 0 || s.held(v) != "" {
		t.Errorf("left: %v", left)
	}
}

// held is what the journal holds, once the daemon is stopped.
func (s *shared) held(v *sweep.Victim) string {
	s.Stop(v)
	return s.Held()
}

// TestInvariant5DefaultBridgeBooksNoAddressTwice: pods by the daemon and by the
// reference's own executables, at once.
func TestInvariant5DefaultBridgeBooksNoAddressTwice(t *testing.T) {
	const each = 8
	s := newShared(t)
	v := s.serve(true)
	defer s.Stop(v)
	s.shim.must("ADD", "first", netnstest.Pod(t))
	var calls sync.WaitGroup
	for i := range 2 * each {
		by, name, pod := s.shim, fmt.Sprint("served", i), netnstest.Pod(t)
		if i%2 == 0 {
			by, name = s.reference, fmt.Sprint("beside", i)
		}
		calls.Go(func() {
			if _, failure := by.call("ADD", name, pod); failure != nil {
				t.Errorf("%s: %v", name, failure)
			}
		})
	}
	calls.Wait()
	owners := map[string]int{}
	for _, line := range s.taken() {
		owners[strings.Fields(line)[1]]++
	}
	if len(owners) != 2*each+1 {
		t.Errorf("%d pods have addresses, want %d: %v", len(owners), 2*each+1, s.taken())
	}
	for owner, n := range owners {
		if n != 2 {
			t.Errorf("%s has %d addresses", owner, n)
		}
	}
}
