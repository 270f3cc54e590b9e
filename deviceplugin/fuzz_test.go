package deviceplugin_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// FuzzParse: whatever the file says, it is refused with a refusal that has an
// allowed part, or gives resources that can be registered and make pools whose
// healthy devices, and no others, can be given out.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"resourceList":[{"resourceName":"a","selectors":{}}]}`,
		`{"resourceList":[{"resourceName":"a","resourcePrefix":"b.c","deviceType":"netDevice","excludeTopology":true,"selectors":[{"vendors":["8086"],"pfNames":["eth0#0-2,5"]}],"additionalInfo":{"*":{"k":"v"}}}]}`,
		`{"resourceList":[{"resourceName":"a","selectors":{"rootDevices":["0000:01:00.0#1"],"IsRdma":false,"isRdma":false}}]}`,
		`{"resourceList":[{"resourceName":"a","deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"pfNames":["p#88"],"acpiIndexes":["4"]},"additionalInfo":{"mlx5_core.sf.4":{"k":"v"}}}]}`,
		`{"resourceList":[{"selectors":{"vendors":["8086"],"isRdma":false},"deviceType":"accelerator","resourceName":"a","allocationPolicy":"spread"}]}`,
		`{"resourceList":[{"resourceName":"a","selectors":{"linkTypes":["infiniband"],"pKeys":["0x7fff"],"ddpProfiles":["GTPv1"],"vdpaType":"vhost"}}]}`,
		`{"resourceList":null}`, `{"resourceList":[{}]}`, `[]`, `{`, `null`, ``, "{\"\\ud800\":1}",
	} {
		f.Add(seed)
	}
	pf := vf.MustAddr("0000:01:00.0")
	snap := &vf.Snapshot{
		VFs: []vf.VF{
			{Addr: vf.MustAddr("0000:01:10.0"), PF: pf, Vendor: "8086", Driver: "igbvf", RDMA: []string{"mlx5_0"}},
			{Addr: vf.MustAddr("0000:01:10.2"), PF: pf, Index: 1, Vendor: "8086", Driver: "vfio-pci", Accelerator: true},
		},
		Aux: []vf.Aux{{Name: "mlx5_core.sf.4", PF: pf, Index: 88, Driver: "mlx5_core.sf"}},
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := deviceplugin.Parse(strings.NewReader(text), "config.json", "intel.com")
		if err != nil {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Allowed == "" || !strings.Contains(r.Object, "config.json") {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for _, r := range cfg.Resources {
			if r.Name == "" || r.Prefix == "" || len(r.Selectors) == 0 {
				t.Fatalf("incomplete resource %+v", r)
			}
		}
		pools := deviceplugin.Pools(cfg, snap, deviceplugin.Host{})
		if len(pools) != len(cfg.Resources) {
			t.Fatalf("%d pools of %d resources", len(pools), len(cfg.Resources))
		}
		for i := range pools {
			for _, d := range pools[i].Devices {
				if _, err := pools[i].Response([]string{d.ID}); (err == nil) != d.Healthy() {
					t.Fatalf("%s of %s, %q: %v", d.ID, pools[i].Name(), d.Cause, err)
				}
			}
		}
	})
}

// TestInvariant4OnePoolEach: whatever the selectors, no function is in two
// pools, and Pools gives the same twice (invariant 2).
func TestInvariant4OnePoolEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := drawSnapshot(t)
		cfg := deviceplugin.Config{}
		names := rapid.SampledFrom([]string{"p0", "p1", "p0#0-1", "p0#1,3", "p1#0", "nope"})
		for i := range rapid.IntRange(1, 4).Draw(t, "resources") {
			s := deviceplugin.Selector{Drivers: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 0, 2, rapid.ID).Draw(t, "drivers")}
			for _, n := range rapid.SliceOfN(names, 0, 3).Draw(t, "pfNames") {
				f, err := vf.ParseFunctions(n)
				if err != nil {
					t.Fatal(err)
				}
				s.PFNames = append(s.PFNames, f)
			}
			cfg.Resources = append(cfg.Resources, deviceplugin.Resource{Prefix: "x", Name: string(rune('a' + i)), Selectors: []deviceplugin.Selector{s}})
		}
		pools := deviceplugin.Pools(cfg, snap, deviceplugin.Host{})
		seen := map[string]string{}
		for i := range pools {
			for _, d := range pools[i].Devices {
				if first, twice := seen[d.ID]; twice {
					t.Fatalf("%s in %s and %s", d.ID, first, pools[i].Name())
				}
				seen[d.ID] = pools[i].Name()
			}
		}
		if a, b := printPools(pools), printPools(deviceplugin.Pools(cfg, snap, deviceplugin.Host{})); a != b {
			t.Fatalf("pools differ:\n%s\n%s", a, b)
		}
	})
}

func drawSnapshot(t *rapid.T) *vf.Snapshot {
	snap := &vf.Snapshot{}
	for p := range 2 {
		pf := vf.MustAddr("000" + string(rune('0'+p)) + ":01:00.0")
		snap.PFs = append(snap.PFs, vf.PF{Addr: pf, Netdev: "p" + string(rune('0'+p)), NumVFs: 4})
		for i := range rapid.IntRange(0, 4).Draw(t, "vfs") {
			addr := vf.MustAddr("000" + string(rune('0'+p)) + ":01:10." + string(rune('0'+i)))
			snap.VFs = append(snap.VFs, vf.VF{
				Addr: addr, PF: pf, Index: i, NUMANode: rapid.IntRange(-1, 1).Draw(t, "numa"), IOMMUGroup: -1,
				Driver: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "driver"),
			})
		}
	}
	return snap
}

// TestPreferKeepsItsPromise: any sensible request gets exactly that many
// devices out of the available ones, the demanded ones among them.
func TestPreferKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := deviceplugin.Config{Resources: []deviceplugin.Resource{{
			Prefix: "x", Name: "y", Selectors: []deviceplugin.Selector{{}},
			ExcludeTopology: rapid.Bool().Draw(t, "excludeTopology"),
			Policy:          rapid.SampledFrom([]deviceplugin.Policy{deviceplugin.Pack, deviceplugin.Spread}).Draw(t, "policy"),
		}}}
		pool := deviceplugin.Pools(cfg, drawSnapshot(t), deviceplugin.Host{})[0]
		var available, must []string
		for _, d := range pool.Devices {
			switch rapid.IntRange(0, 3).Draw(t, "state") {
			case 0:
				must = append(must, d.ID)
				fallthrough
			case 1, 2:
				available = append(available, d.ID)
			}
		}
		size := rapid.IntRange(len(must), len(available)).Draw(t, "size")
		got, err := pool.Prefer(available, must, size)
		if err != nil || len(got) != size {
			t.Fatalf("%d of %v with %v: %v, %v", size, available, must, got, err)
		}
		seen := map[string]bool{}
		for _, id := range got {
			if seen[id] || !slices.Contains(available, id) {
				t.Fatalf("%s in %v of %v", id, got, available)
			}
			seen[id] = true
		}
		for _, id := range must {
			if !seen[id] {
				t.Fatalf("%s not in %v", id, got)
			}
		}
	})
}

// TestPrefer: NUMA node first, then packed or spread by PF.
func TestPrefer(t *testing.T) {
	// Three PFs: a with 4 free VFs and b with 2 on node 0, c with 3 on node 1.
	w := parseWorld(t, `
pf 0000:0a:00.0 netdev=a vfs=4
pf 0000:0b:00.0 netdev=b vfs=2
pf 0000:0c:00.0 netdev=c vfs=3
vf 0000:0a:10.0 pf=0000:0a:00.0 n=0 driver=d numa=0
vf 0000:0a:10.1 pf=0000:0a:00.0 n=1 driver=d numa=0
vf 0000:0a:10.2 pf=0000:0a:00.0 n=2 driver=d numa=0
vf 0000:0a:10.3 pf=0000:0a:00.0 n=3 driver=d numa=0
vf 0000:0b:10.0 pf=0000:0b:00.0 n=0 driver=d numa=0
vf 0000:0b:10.1 pf=0000:0b:00.0 n=1 driver=d numa=0
vf 0000:0c:10.0 pf=0000:0c:00.0 n=0 driver=d numa=1
vf 0000:0c:10.1 pf=0000:0c:00.0 n=1 driver=d numa=1
vf 0000:0c:10.2 pf=0000:0c:00.0 n=2 driver=d numa=1
`)
	a, b, c := "0000:0a:10.", "0000:0b:10.", "0000:0c:10."
	all := []string{a + "3", a + "2", a + "1", a + "0", b + "0", b + "1", c + "0", c + "1", c + "2"}
	for name, tc := range map[string]struct {
		noTopology bool
		spread     bool
		must       []string
		size       int
		want       []string
		available  []string
		refused    bool
	}{
		"smallest node that is enough":   {size: 3, want: []string{c + "0", c + "1", c + "2"}},
		"then the larger node":           {size: 4, want: []string{a + "0", a + "1", a + "2", a + "3"}},
		"two PFs of one node":            {size: 5, want: []string{a + "0", a + "1", a + "2", a + "3", b + "0"}},
		"more than a node":               {size: 7, want: []string{a + "0", a + "1", a + "2", a + "3", b + "0", b + "1", c + "0"}},
		"near what it must have":         {size: 2, must: []string{a + "2"}, want: []string{a + "2", a + "0"}},
		"smallest PF, topology excluded": {noTopology: true, size: 2, want: []string{b + "0", b + "1"}},
		"only what is available":         {size: 2, available: []string{a + "3", b + "1", c + "1"}, want: []string{a + "3", b + "1"}},
		"spread over a node's PFs":       {spread: true, size: 5, want: []string{a + "0", b + "0", a + "1", b + "1", a + "2"}},
		"spread keeps to the node":       {spread: true, size: 3, want: []string{c + "0", c + "1", c + "2"}},
		"spread over all PFs":            {spread: true, noTopology: true, size: 4, want: []string{a + "0", c + "0", b + "0", a + "1"}},
		"spread away from what it has":   {spread: true, noTopology: true, size: 3, must: []string{a + "2"}, want: []string{a + "2", c + "0", b + "0"}},
		"nothing":                        {size: 0, want: []string{}},
		"too many":                       {size: 10, refused: true},
		"must not available":             {size: 1, must: []string{a + "0"}, available: []string{b + "0"}, refused: true},
		"unknown":                        {size: 1, available: []string{"0000:0d:10.0"}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := deviceplugin.Config{Resources: []deviceplugin.Resource{{
				Prefix: "x", Name: "y", ExcludeTopology: tc.noTopology, Selectors: []deviceplugin.Selector{{}},
			}}}
			if tc.spread {
				cfg.Resources[0].Policy = deviceplugin.Spread
			}
			pool := deviceplugin.Pools(cfg, &w.snap, w.host)[0]
			if tc.available == nil {
				tc.available = all
			}
			got, err := pool.Prefer(tc.available, tc.must, tc.size)
			if (err != nil) != tc.refused {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
