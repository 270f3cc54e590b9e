package deviceplugin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// node is who holds devices, as the kubelet and the journal would tell.
type node struct {
	// mu guards the rest.
	mu    sync.Mutex
	held  []deviceplugin.Holding
	deaf  bool
	asked int
}

func (n *node) holdings(context.Context) ([]deviceplugin.Holding, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.deaf {
		return nil, errors.New("no kubelet here")
	}
	return append([]deviceplugin.Holding(nil), n.held...), nil
}

func (n *node) set(held ...deviceplugin.Holding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = held
}

func held(short, resource, owner string) deviceplugin.Holding {
	return deviceplugin.Holding{ID: "0000:" + short, Resource: resource, Owner: owner}
}

// old is long enough ago for the kubelet to have told of it.
func old() time.Time { return time.Now().Add(-time.Hour) }

func refusedFor(t *testing.T, err error, words ...string) {
	t.Helper()
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("got %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

// TestInvariant6BusyVFIsNotAllocated: a VF that somebody began to work on since the
// pools were made is not given out: that somebody looked for users before this
// allocation was recorded, and would bind another driver under the pod.
func TestInvariant6BusyVFIsNotAllocated(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	var busy atomic.Bool
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, Unfit: func(a vf.Addr) string {
		if a == vf.MustAddr("0000:01:10.2") && busy.Load() {
			return "PF ens4 VF 1: bind driver vfio-pci"
		}
		return ""
	}})
	k.shows(low, none)
	busy.Store(true)
	_, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0", "0000:01:10.2"))
	refusedFor(t, err, "0000:01:10.2", "bind driver vfio-pci")
	if all := p.Allocations().All(); len(all) > 0 {
		t.Errorf("what was refused counts as given out: %+v", all)
	}
	busy.Store(false)
	if _, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0", "0000:01:10.2")); err != nil {
		t.Error(err)
	}
}

const renamed = `{"resourceList":[{"resourceName":"high","selectors":{"pfNames":["ens4#0-1"]}}]}`

// TestInvariant4PoolRenamed: a device given out before the pool got another name
// is refused under the new name, with the pod's name, until that pod is gone.
func TestInvariant4PoolRenamed(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, Holdings: n.holdings})
	k.shows(low, none)
	if _, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0")); err != nil {
		t.Fatal(err)
	}
	// The census that is under way need not have it yet.
	p.Reload(config(t, renamed))
	k.shows("intel.com/high: 01:10.0(Unhealthy)@0 01:10.2@0")
	_, err := k.client("intel.com/high").Allocate(t.Context(), request("0000:01:10.0"))
	refusedFor(t, err, `resource "intel.com/high"`, "0000:01:10.0", "held by a container as intel.com/low")
	n.set(held("01:10.0", "intel.com/low", "pod blue/web"))
	p.Recount()
	waitFor(t, func() (string, bool) {
		_, err := k.client("intel.com/high").Allocate(t.Context(), request("0000:01:10.0"))
		return fmt.Sprint(err), err != nil && strings.Contains(err.Error(), "held by pod blue/web as intel.com/low")
	})
	if _, err := k.client("intel.com/high").Allocate(t.Context(), request("0000:01:10.2")); err != nil {
		t.Errorf("free device: %v", err)
	}
}

// TestInvariant4ReleasedToAnotherPool: when the kubelet has no holder any more, the
// device is healthy in its new pool.
func TestInvariant4ReleasedToAnotherPool(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	n.set(held("01:10.0", "intel.com/low", "pod blue/web"))
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, renamed), Inventory: &inventory{snap: nic(4, "igbvf")}, Holdings: n.holdings})
	p.Allocations().Add(deviceplugin.Allocation{Resource: "intel.com/low", IDs: []string{"0000:01:10.0"}, Time: old()})
	k.shows("intel.com/high: 01:10.0(Unhealthy)@0 01:10.2@0")
	n.set()
	p.Recount()
	k.shows("intel.com/high: 01:10.0@0 01:10.2@0")
	if _, err := k.client("intel.com/high").Allocate(t.Context(), request("0000:01:10.0")); err != nil {
		t.Error(err)
	}
}

// TestInvariant4ForeignOwner: a device that another device plugin gave out, or
// that an attachment of the daemon's has without the kubelet, is not offered.
func TestInvariant4ForeignOwner(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	n.set(held("01:10.0", "example.com/old", "pod red/db"), held("01:10.2", "", "pod green/fw"))
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, Holdings: n.holdings})
	k.shows("intel.com/low: 01:10.0(Unhealthy)@0 01:10.2(Unhealthy)@0", none)
	_, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0"))
	refusedFor(t, err, "held by pod red/db as example.com/old")
	_, err = k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.2"))
	refusedFor(t, err, "held by pod green/fw")
}

// TestRestartWithAllInPods: a new process that finds every VF in a pod, and no
// network device of any on the host, offers as much as before.
func TestRestartWithAllInPods(t *testing.T) {
	modes(t, func(t *testing.T, k *fakeKubelet) {
		k.start()
		n := &node{}
		n.set(held("01:10.0", "intel.com/low", "pod blue/a"), held("01:10.2", "intel.com/low", "pod blue/b"))
		cfg := config(t, strings.Replace(twoPools, `"pfNames":["ens4#0-1"]`, `"pfNames":["ens4#0-1"],"linkTypes":["ether"]`, 1))
		snap := nic(4, "igbvf")
		snap.PFs[0].LinkType = "ether"
		o := deviceplugin.Options{KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: snap}, Holdings: n.holdings}
		_, stop := plugin(t, o)
		k.shows(low, none)
		stop()
		k.shows()
		p, _ := plugin(t, o)
		for _, id := range []string{"0000:01:10.0", "0000:01:10.2"} {
			p.Allocations().Add(deviceplugin.Allocation{Resource: "intel.com/low", IDs: []string{id}, Time: old()})
		}
		k.shows(low, none)
	})
}

// TestHoldersUnknown: a kubelet that does not say who holds what changes nothing:
// what may be held stays held, what is free is given out.
func TestHoldersUnknown(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{deaf: true}
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, Holdings: n.holdings})
	p.Allocations().Add(deviceplugin.Allocation{Resource: "intel.com/gone", IDs: []string{"0000:01:10.2"}, Time: old()})
	p.Refresh()
	k.shows("intel.com/low: 01:10.0@0 01:10.2(Unhealthy)@0", none)
	if _, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0")); err != nil {
		t.Error(err)
	}
	n.mu.Lock()
	n.deaf = false
	n.mu.Unlock()
	p.Recount()
	k.shows(low, none)
}

// TestInvariant4LeaseIsTheLastWord: a device that another resource gave out a
// moment ago, which the pool that is being served cannot know yet, is not given out
// again; nor are the others of the same request.
func TestInvariant4LeaseIsTheLastWord(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}})
	k.shows(low, none)
	p.Allocations().Add(deviceplugin.Allocation{Resource: "intel.com/high", IDs: []string{"0000:01:10.2"}, Time: time.Now()})
	_, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0", "0000:01:10.2"))
	refusedFor(t, err, `resource "intel.com/low"`, "0000:01:10.2", "held by a container as intel.com/high")
	if a, ok := p.Allocations().Last("0000:01:10.0"); ok {
		t.Errorf("the refused request left %+v", a)
	}
	k.shows(low, none)
}

// TestInvariant4OneOfManyReloads: while the configuration moves the devices from
// name to name, and every name hands them out as fast as it can, no device goes
// to two names.
func TestInvariant4OneOfManyReloads(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	const names = 4
	pools := func(i int) deviceplugin.Config {
		return config(t, fmt.Sprintf(`{"resourceList":[{"resourceName":"r%d","selectors":{}},{"resourceName":"spare","selectors":{}}]}`, i))
	}
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: pools(0), Inventory: &inventory{snap: nic(7, "igbvf")}, Holdings: n.holdings})
	// mu guards given: device to names.
	var mu sync.Mutex
	given := map[string]map[string]bool{}
	var all sync.WaitGroup
	for i := range names {
		p.Reload(pools(i))
		name := fmt.Sprintf("intel.com/r%d", i)
		waitFor(t, func() (string, bool) {
			list := k.String()
			return list, strings.Contains(list, name+": 01:")
		})
		client := k.client(name)
		all.Go(func() {
			for _, d := range nic(7, "igbvf").VFs {
				id := d.Addr.String()
				if _, err := client.Allocate(t.Context(), request(id)); err != nil {
					continue // held, or the pool has gone
				}
				mu.Lock()
				defer mu.Unlock()
				if given[id] == nil {
					given[id] = map[string]bool{}
				}
				given[id][name] = true
				return // one each, so that the next name finds free ones too
			}
		})
	}
	all.Wait()
	if len(given) == 0 {
		t.Error("nothing was given out")
	}
	for id, to := range given {
		if len(to) > 1 {
			t.Errorf("%s went to %v", id, to)
		}
	}
}
