package deviceplugin_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// policy is a resource as a policy asks for it: VFs first to last of the igb.
func policy(name string, first, last int) deviceplugin.Resource {
	return deviceplugin.Resource{Prefix: "intel.com", Name: name, Selectors: []deviceplugin.Selector{{
		RootDevices: []vf.Functions{{PF: "0000:01:00.0", Ranges: vf.Ranges{{First: first, Last: last}}}},
	}}}
}

// TestMerge: new names come after the file's, a name that is there gets more
// selectors, and what contradicts is left out and named.
func TestMerge(t *testing.T) {
	cfg := config(t, twoPools)
	odd := policy("low", 4, 4)
	odd.ExcludeTopology = true
	got, err := deviceplugin.Merge(cfg, []deviceplugin.Resource{policy("low", 3, 3), policy("more", 2, 2), odd, policy("no.good", 0, 0)})
	want := map[string]int{"intel.com/low": 2, "intel.com/none": 1, "intel.com/more": 1}
	count := map[string]int{}
	for _, r := range got.Resources {
		count[r.String()] = len(r.Selectors)
	}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("selectors by resource (-want +got):\n%s", diff)
	}
	var r *refusal.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v", err)
	}
	for _, words := range []string{
		`resource "intel.com/low": field excludeTopology: value true is not allowed; allowed: false, as where the resource is defined first`,
		`resource "intel.com/no.good": field resourceName: value "no.good" is not allowed`,
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in: %v", words, err)
		}
	}
	if len(cfg.Resources) != 2 || len(cfg.Resources[0].Selectors) != 1 {
		t.Errorf("the configuration was changed: %+v", cfg)
	}
	pools := deviceplugin.Pools(got, nic(7, "igbvf"), deviceplugin.Host{})
	const printed = `intel.com/low: 3
  0000:01:10.0 index=0 driver=igbvf numa=0 group=20
  0000:01:10.2 index=1 driver=igbvf numa=0 group=21
  0000:01:10.6 index=3 driver=igbvf numa=0 group=23
intel.com/none: 0
intel.com/more: 1
  0000:01:10.4 index=2 driver=igbvf numa=0 group=22
`
	if diff := cmp.Diff(printed, printPools(pools)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPoliciesAtRunTime: pools of policies come, are renamed and go, and one that
// cannot be served is told while the others are.
func TestPoliciesAtRunTime(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	// mu guards now.
	var mu sync.Mutex
	var now []deviceplugin.Resource
	p, _ := plugin(t, deviceplugin.Options{
		KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")},
		Resources: func() []deviceplugin.Resource {
			mu.Lock()
			defer mu.Unlock()
			return now
		},
	})
	set := func(list ...deviceplugin.Resource) {
		mu.Lock()
		defer mu.Unlock()
		now = list
		p.Refresh()
	}
	k.shows(low, none)
	set(policy("more", 2, 3))
	k.shows(low, "intel.com/more: 01:10.4@0 01:10.6@0", none)
	set(policy("other", 2, 3), policy("none", 3, 3))
	k.shows(low, "intel.com/none: 01:10.6@0", "intel.com/other: 01:10.4@0")
	set(policy("kubernetes_io", 2, 2), policy("-", 2, 2))
	k.shows("intel.com/kubernetes_io: 01:10.4@0", low, none)
	waitFor(t, func() (string, bool) { return "nothing refused", p.Refused() != nil })
	set()
	k.shows(low, none)
	waitFor(t, func() (string, bool) { return "still refused", p.Refused() == nil })
}

// TestAccelerators: class 12 devices reach the kubelet, and network functions do
// not come with them.
func TestAccelerators(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	snap := nic(2, "vfio-pci")
	snap.VFs[1].Accelerator = true
	cfg := config(t, `{"resourceList":[{"resourceName":"fec","deviceType":"accelerator","selectors":{}}]}`)
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: snap}})
	k.shows("intel.com/fec: 01:10.2@0")
}

// TestSubfunctions: auxiliary devices reach the kubelet under their names, and
// have no device-info files, which have no form for them.
func TestSubfunctions(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	snap := nic(2, "mlx5_core")
	snap.Aux = []vf.Aux{{Name: "mlx5_core.sf.4", PF: snap.PFs[0].Addr, Index: 88, Driver: "mlx5_core.sf", NUMANode: 1}}
	cfg := config(t, `{"resourceList":[{"resourceName":"sf","deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pfNames":["ens4#88"]}}]}`)
	dir := k.root + "/devinfo"
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: cfg, Inventory: &inventory{snap: snap}, DeviceInfoDir: dir})
	k.shows("intel.com/sf: mlx5_core.sf.4@1")
	resp, err := k.client("intel.com/sf").Allocate(t.Context(), request("mlx5_core.sf.4"))
	if err != nil || resp.ContainerResponses[0].Envs["PCIDEVICE_INTEL_COM_SF"] != "mlx5_core.sf.4" {
		t.Errorf("%v, %v", resp, err)
	}
	if files := visible(dir); len(files) != 0 {
		t.Errorf("device-info files %v", files)
	}
}
