package deviceplugin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/tendril-cni/tendril/deviceplugin"
)

// resolves looks the name up as container runtimes do, with their library, and
// prints the nodes that the container would get.
func resolves(t *testing.T, dir, name string) string {
	t.Helper()
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dir), cdi.WithAutoRefresh(false))
	if err != nil {
		t.Fatal(err)
	}
	if errs := cache.GetErrors(); len(errs) > 0 {
		t.Fatalf("specifications: %v", errs)
	}
	d := cache.GetDevice(name)
	if d == nil {
		return "unknown"
	}
	var nodes []string
	for _, n := range d.ContainerEdits.DeviceNodes {
		nodes = append(nodes, fmt.Sprintf("%s:%s:%s", n.HostPath, n.Path, n.Permissions))
	}
	return strings.Join(nodes, " ")
}

const (
	cdiLow  = "tendril.dev/net=intel.com_low_0000:01:10.0"
	lowVFIO = "/dev/vfio/vfio:/dev/vfio/vfio:rw /dev/vfio/20:/dev/vfio/20:rw"
)

// TestCDI: containers get a name instead of nodes, which the runtime's library
// resolves; it does so while the plugin is down, after a restart, and for a
// device in use whose pool has gone, until that is over.
func TestCDI(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	dir := filepath.Join(k.root, "cdi")
	inv := &inventory{snap: nic(4, "vfio-pci")}
	o := deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv, Holdings: n.holdings, CDIDir: dir}
	_, stop := plugin(t, o)
	k.shows(low, none)
	resp, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0"))
	if err != nil {
		t.Fatal(err)
	}
	c := resp.ContainerResponses[0]
	if len(c.Devices) != 0 || len(c.CdiDevices) != 1 || c.CdiDevices[0].Name != cdiLow {
		t.Errorf("nodes %v, names %v", c.Devices, c.CdiDevices)
	}
	if diff := cmp.Diff(lowVFIO, resolves(t, dir, cdiLow)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	stop()
	if diff := cmp.Diff(lowVFIO, resolves(t, dir, cdiLow)); diff != "" {
		t.Errorf("plugin down (-want +got):\n%s", diff)
	}

	n.set(held("01:10.0", "intel.com/low", "pod blue/web"))
	o.Config = deviceplugin.Config{}
	p, _ := plugin(t, o)
	p.Recount()
	waitFor(t, func() (string, bool) {
		got := resolves(t, dir, "tendril.dev/net=intel.com_low_0000:01:10.2")
		return "device without pool and pod: " + got, got == "unknown"
	})
	if diff := cmp.Diff(lowVFIO, resolves(t, dir, cdiLow)); diff != "" {
		t.Errorf("pool gone, device in use (-want +got):\n%s", diff)
	}
	n.set()
	p.Recount()
	waitFor(t, func() (string, bool) {
		left, err := os.ReadDir(dir)
		return fmt.Sprintf("left %v, %v", left, err), err == nil && len(left) == 0
	})
}

// TestCDIFollowsDriver: a VF that goes to a kernel driver has no name any more,
// and a container gets neither name nor node.
func TestCDIFollowsDriver(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	dir := filepath.Join(k.root, "cdi")
	inv := &inventory{snap: nic(4, "vfio-pci")}
	p, _ := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv, CDIDir: dir})
	k.shows(low, none)
	inv.set(nic(4, "igbvf"))
	waitFor(t, func() (string, bool) {
		return fmt.Sprint(p.Pools()), p.Pools()[0].Devices[0].Driver == "igbvf"
	})
	waitFor(t, func() (string, bool) {
		resp, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0"))
		if err != nil {
			t.Fatal(err)
		}
		c := resp.ContainerResponses[0]
		return c.String(), len(c.Devices)+len(c.CdiDevices) == 0
	})
	if got := resolves(t, dir, cdiLow); got != "unknown" {
		t.Error(got)
	}
}

// TestCDIUnwritable: without the specification, nodes are given as before.
func TestCDIUnwritable(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	file := filepath.Join(k.root, "cdi")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "vfio-pci")}, CDIDir: file})
	k.shows(low, none)
	resp, err := k.client("intel.com/low").Allocate(t.Context(), request("0000:01:10.0"))
	if err != nil {
		t.Fatal(err)
	}
	if c := resp.ContainerResponses[0]; len(c.Devices) != 2 || len(c.CdiDevices) != 0 {
		t.Errorf("nodes %v, names %v", c.Devices, c.CdiDevices)
	}
}
