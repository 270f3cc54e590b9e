package deviceplugin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// inventory is a stateful stand-in for the goroutine that owns the snapshot.
type inventory struct {
	// mu guards all fields.
	mu    sync.Mutex
	snap  *vf.Snapshot
	subs  map[chan struct{}]bool
	reads int
}

func (i *inventory) Snapshot() *vf.Snapshot {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reads++
	return i.snap
}

func (i *inventory) Subscribe() (<-chan struct{}, func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := make(chan struct{}, 1)
	if i.subs == nil {
		i.subs = map[chan struct{}]bool{}
	}
	i.subs[c] = true
	return c, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.subs, c)
	}
}

func (i *inventory) set(snap *vf.Snapshot) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.snap = snap
	for c := range i.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// nic is an igb with n VFs, all driven by driver.
func nic(n int, driver string) *vf.Snapshot {
	pf := vf.MustAddr("0000:01:00.0")
	snap := &vf.Snapshot{PFs: []vf.PF{{Addr: pf, Netdev: "ens4", Vendor: "8086", Device: "10c9", Driver: "igb", NumVFs: n, NUMANode: 0}}}
	for i := range n {
		addr := fmt.Sprintf("0000:01:%02x.%d", 0x10+i/4, i%4*2)
		snap.VFs = append(snap.VFs, vf.VF{
			Addr: vf.MustAddr(addr), PF: pf, Index: i, Vendor: "8086", Device: "10ca",
			Driver: driver, NUMANode: 0, IOMMUGroup: 20 + i,
		})
	}
	return snap
}

func config(t testing.TB, text string) deviceplugin.Config {
	t.Helper()
	cfg, err := deviceplugin.Parse(strings.NewReader(text), "config.json", "intel.com")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const twoPools = `{"resourceList":[
	{"resourceName":"low","selectors":{"pfNames":["ens4#0-1"]}},
	{"resourceName":"none","selectors":{"pfNames":["ens9"]}}]}`

// plugin runs a plugin until the test ends; stop ends it earlier.
func plugin(t testing.TB, o deviceplugin.Options) (p *deviceplugin.Plugin, stop func()) {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if o.Dev == "" {
		o.Dev = filepath.Join(o.KubeletRoot, "dev")
	}
	p, err := deviceplugin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

// modes runs a test in both ways of registration.
func modes(t *testing.T, f func(t *testing.T, k *fakeKubelet)) {
	t.Run("watcher", func(t *testing.T) { f(t, newKubelet(t, true)) })
	t.Run("legacy", func(t *testing.T) { f(t, newKubelet(t, false)) })
}

const (
	low  = "intel.com/low: 01:10.0@0 01:10.2@0"
	none = "intel.com/none:"
)

func TestRegisteredEvenEmpty(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		_, stop := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
		k.shows(low, none)
		stop()
		k.shows()
		left, err := filepath.Glob(filepath.Join(filepath.Dir(k.socket("x")), "*intel*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// TestKubeletRestart: killed and started again, twice, with the pools changing
// in between.
func TestKubeletRestart(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		inv := &inventory{snap: nic(4, "igbvf")}
		plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv})
		k.shows(low, none)
		k.stop()
		inv.set(nic(1, "igbvf"))
		k.start()
		k.shows("intel.com/low: 01:10.0@0", none)
		k.stop()
		inv.set(nic(4, "igbvf"))
		k.start()
		k.shows(low, none)
	})
}

// TestKubeletAbsent: the plugin is there first, before even the directories.
func TestKubeletAbsent(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		inv := &inventory{snap: nic(4, "igbvf")}
		p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv})
		waitFor(t, func() (string, bool) { return "no pools", len(p.Pools()) == 2 })
		k.start()
		k.shows(low, none)
	})
}

// TestOldKubeletUpgraded: a node that registered the older way finds its
// sockets in the newer place once the kubelet has one.
func TestOldKubeletUpgraded(t *testing.T) {
	k := newKubelet(t, false)
	k.start()
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
	k.shows(low, none)
	k.stop()
	k.watcher = true
	k.start()
	k.shows(low, none)
	if _, err := os.Lstat(k.socket("intel.com/low")); err != nil {
		t.Error(err)
	}
}

// TestStreamDropped: the kubelet lets go without a restart and is asked again.
func TestStreamDropped(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
		k.shows(low, none)
		k.forget("intel.com/low")
		k.shows(none)
		k.shows(low, none)
	})
}

// TestSocketDeleted: somebody cleans up too much.
func TestSocketDeleted(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
		k.shows(low, none)
		before, err := os.Lstat(k.socket("intel.com/low"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(k.socket("intel.com/low")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() (string, bool) {
			now, err := os.Lstat(k.socket("intel.com/low"))
			return "no new socket", err == nil && !now.ModTime().Equal(before.ModTime())
		})
		k.shows(low, none)
	})
}

// TestRegistrationRefused: a kubelet that says no is asked again.
func TestRegistrationRefused(t *testing.T) {
	k := newKubelet(t, false)
	k.refuse = true
	k.start()
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
	waitFor(t, func() (string, bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return "not asked", k.refused > 2
	})
	k.mu.Lock()
	k.refuse = false
	k.mu.Unlock()
	k.shows(low, none)
}

// TestInventoryChanges: each change is seen on the stream, without a restart.
func TestInventoryChanges(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	inv := &inventory{snap: nic(0, "")}
	// mu guards unfit.
	var mu sync.Mutex
	unfit := map[string]string{}
	p, _ := plugin(t, deviceplugin.Options{
		KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv,
		Unfit: func(a vf.Addr) string {
			mu.Lock()
			defer mu.Unlock()
			return unfit[a.String()]
		},
	})
	k.shows("intel.com/low:", none)
	inv.set(nic(4, ""))
	k.shows("intel.com/low: 01:10.0(Unhealthy)@0 01:10.2(Unhealthy)@0", none)
	inv.set(nic(4, "igbvf"))
	k.shows(low, none)
	mu.Lock()
	unfit["0000:01:10.2"] = "not back at its baseline"
	mu.Unlock()
	p.Refresh()
	k.shows("intel.com/low: 01:10.0@0 01:10.2(Unhealthy)@0", none)
	_, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.2"))
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "not back at its baseline") {
		t.Errorf("unhealthy device: %v", err)
	}
	inv.set(nic(1, "igbvf"))
	k.shows("intel.com/low: 01:10.0@0", none)
}

// TestNothingBeforeInventory: no snapshot, no socket.
func TestNothingBeforeInventory(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	inv := &inventory{}
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv})
	waitFor(t, func() (string, bool) {
		p.Refresh()
		inv.mu.Lock()
		defer inv.mu.Unlock()
		return "inventory not read", inv.reads > 2
	})
	if files, err := os.ReadDir(k.registry()); err != nil || len(files) != 0 || p.Pools() != nil {
		t.Errorf("sockets %v, pools %v, %v", files, p.Pools(), err)
	}
	inv.set(nic(4, "igbvf"))
	k.shows(low, none)
}

// TestReload: pools go, come and change; those that stay keep their stream.
func TestReload(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
		k.shows(low, none)
		stays := k.client("intel.com/low")
		p.Reload(config(t, `{"resourceList":[
			{"resourceName":"low","excludeTopology":true,"selectors":{"pfNames":["ens4#0"]}},
			{"resourceName":"rest","resourcePrefix":"tendril.dev","selectors":{}}]}`))
		k.shows("intel.com/low: 01:10.0", "tendril.dev/rest: 01:10.2@0 01:10.4@0 01:10.6@0")
		if k.client("intel.com/low") != stays {
			t.Error("a pool that stayed was registered again")
		}
		if _, err := os.Lstat(k.socket("intel.com/none")); !os.IsNotExist(err) {
			t.Errorf("socket of the pool that went: %v", err)
		}
		p.Reload(config(t, twoPools))
		k.shows(low, none)
		p.Reload(deviceplugin.Config{})
		k.shows()
	})
}

// TestOthersSocketStays: the next instance has put its socket in
// place; the old one goes without taking it along.
func TestOthersSocketStays(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	inv := &inventory{snap: nic(4, "igbvf")}
	_, stop := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv})
	k.shows(low, none)
	path := k.socket("intel.com/low")
	l, err := net.Listen("unix", path+".next")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(k.socket("intel.com/none")); !os.IsNotExist(err) {
		t.Errorf("own socket: %v", err)
	}
}

// TestSuccessor: a new instance starts while the old one runs, and the kubelet
// has the pools throughout the change.
func TestSuccessor(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		_, stop := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
		k.shows(low, none)
		plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(1, "igbvf")}})
		k.shows("intel.com/low: 01:10.0@0", none)
		stop()
		k.shows("intel.com/low: 01:10.0@0", none)
	})
}

func request(containers ...string) *pluginapi.AllocateRequest {
	r := &pluginapi.AllocateRequest{}
	for _, ids := range containers {
		r.ContainerRequests = append(r.ContainerRequests, &pluginapi.ContainerAllocateRequest{DevicesIds: strings.Split(ids, ",")})
	}
	return r
}

// TestAllocate: over the socket, two containers at once, vfio nodes the first
// time, one bad device refusing all, and every success on record before the
// answer.
func TestAllocate(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	// mu guards sunk.
	var mu sync.Mutex
	var sunk []deviceplugin.Allocation
	p, _ := plugin(t, deviceplugin.Options{
		KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "vfio-pci")},
		OnAllocate: func(a deviceplugin.Allocation) {
			mu.Lock()
			defer mu.Unlock()
			sunk = append(sunk, a)
		},
	})
	k.shows(low, none)
	client := k.client("intel.com/low")
	resp, err := client.Allocate(t.Context(), request("0000:01:10.2,0000:01:10.0", "0000:01:10.0"))
	if err != nil {
		t.Fatal(err)
	}
	first := resp.ContainerResponses[0]
	if got := first.Envs["PCIDEVICE_INTEL_COM_LOW"]; got != "0000:01:10.2,0000:01:10.0" {
		t.Errorf("variable %q", got)
	}
	var nodes []string
	for _, d := range first.Devices {
		nodes = append(nodes, d.HostPath+" "+d.ContainerPath+" "+d.Permissions)
	}
	if diff := cmp.Diff([]string{"/dev/vfio/vfio /dev/vfio/vfio rw", "/dev/vfio/21 /dev/vfio/21 rw", "/dev/vfio/20 /dev/vfio/20 rw"}, nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if _, err := client.Allocate(t.Context(), request("0000:01:10.2", "0000:01:10.4")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "0000:01:10.4") {
		t.Errorf("device of nobody: %v", err)
	}
	want := []deviceplugin.Allocation{
		{Resource: "intel.com/low", IDs: []string{"0000:01:10.2", "0000:01:10.0"}},
		{Resource: "intel.com/low", IDs: []string{"0000:01:10.0"}},
	}
	ignoreTime := cmpopts.IgnoreFields(deviceplugin.Allocation{}, "Time")
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, sunk, ignoreTime); diff != "" {
		t.Errorf("sink (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, p.Allocations().All(), ignoreTime); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// TestPreferredOverGRPC: the kubelet is told that it may ask, and gets an
// answer.
func TestPreferredOverGRPC(t *testing.T) {
	k := newKubelet(t, false)
	k.start()
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
	k.shows(low, none)
	client := k.client("intel.com/low")
	options, err := client.GetDevicePluginOptions(t.Context(), &pluginapi.Empty{})
	if err != nil || !options.GetPreferredAllocationAvailable || options.PreStartRequired {
		t.Errorf("options %v, %v", options, err)
	}
	ask := &pluginapi.ContainerPreferredAllocationRequest{AvailableDeviceIDs: []string{"0000:01:10.2", "0000:01:10.0"}, AllocationSize: 1}
	resp, err := client.GetPreferredAllocation(t.Context(), &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{ask}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0000:01:10.0"}, resp.ContainerResponses[0].DeviceIDs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ask.AllocationSize = 3
	_, err = client.GetPreferredAllocation(t.Context(), &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{ask}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("three of two: %v", err)
	}
}

// TestPreferredPassesOverWhatHasChanged: the kubelet's list is a moment old. It fails
// the pod for good when this call, or Allocate after it, refuses a device that went
// meanwhile, while others are free.
func TestPreferredPassesOverWhatHasChanged(t *testing.T) {
	k := newKubelet(t, false)
	k.start()
	gone, sick := "0000:01:11.6", vf.MustAddr("0000:01:10.0")
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, Unfit: func(a vf.Addr) string {
		if a == sick {
			return "in quarantine"
		}
		return ""
	}})
	k.shows("intel.com/low: 01:10.0(Unhealthy)@0 01:10.2@0", none)
	client := k.client("intel.com/low")
	ask := &pluginapi.ContainerPreferredAllocationRequest{AvailableDeviceIDs: []string{gone, sick.String(), "0000:01:10.2"}, AllocationSize: 1}
	resp, err := client.GetPreferredAllocation(t.Context(), &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{ask}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0000:01:10.2"}, resp.ContainerResponses[0].DeviceIDs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAllocationsReplace: a device's last allocation counts, and one that is
// wholly replaced is gone.
func TestAllocationsReplace(t *testing.T) {
	var a deviceplugin.Allocations
	one := deviceplugin.Allocation{Resource: "r", IDs: []string{"a", "b"}}
	two := deviceplugin.Allocation{Resource: "r", IDs: []string{"b"}}
	three := deviceplugin.Allocation{Resource: "r", IDs: []string{"a"}}
	a.Add(one)
	a.Add(two)
	if diff := cmp.Diff([]deviceplugin.Allocation{one, two}, a.All()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.Add(three)
	if diff := cmp.Diff([]deviceplugin.Allocation{two, three}, a.All()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if last, ok := a.Last("b"); !ok || !cmp.Equal(last, two) {
		t.Errorf("last of b: %v %v", last, ok)
	}
	if _, ok := a.Last("c"); ok {
		t.Error("c was never allocated")
	}
}

// TestVhostNodes: nodes that appear later come with the next allocation.
func TestVhostNodes(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	dev := filepath.Join(k.root, "dev")
	cfg := config(t, `{"resourceList":[{"resourceName":"low","selectors":{"pfNames":["ens4#0-1"],"needVhostNet":true}}]}`)
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: nic(4, "igbvf")}, Dev: dev})
	k.shows(low)
	if err := os.MkdirAll(filepath.Join(dev, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vhost-net", "net/tun"} {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Refresh()
	waitFor(t, func() (string, bool) {
		resp, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0"))
		if err != nil {
			t.Fatal(err)
		}
		return resp.String(), len(resp.ContainerResponses[0].Devices) == 2
	})
}

// TestNewRefuses: options without the required parts.
func TestNewRefuses(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for name, o := range map[string]deviceplugin.Options{
		"relative root": {KubeletRoot: "kubelet", Inventory: &inventory{}, Log: log},
		"no inventory":  {KubeletRoot: "/k", Log: log},
		"no log":        {KubeletRoot: "/k", Inventory: &inventory{}},
	} {
		if p, err := deviceplugin.New(o); err == nil {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// TestLongSocketPath: a path beyond the kernel's limit is said, and the other
// pools are served.
func TestLongSocketPath(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	cfg := config(t, fmt.Sprintf(`{"resourceList":[
		{"resourceName":"low","selectors":{"pfNames":["ens4#0-1"]}},
		{"resourceName":%q,"resourcePrefix":%q,"selectors":{}}]}`, strings.Repeat("n", 63), strings.Repeat("p", 60)))
	var log syncBuffer
	p, err := deviceplugin.New(deviceplugin.Options{
		KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: nic(4, "igbvf")},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	k.shows(low)
	waitFor(t, func() (string, bool) { return log.String(), strings.Contains(log.String(), "at most 106 bytes") })
	cancel()
	if err := <-ended; err != nil {
		t.Error(errors.Unwrap(err))
	}
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	// mu guards text.
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
