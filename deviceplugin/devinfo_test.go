package deviceplugin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// visible lists a directory without names that begin with a dot.
func visible(dir string) []string {
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func hasFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	waitFor(t, func() (string, bool) {
		got := visible(dir)
		return fmt.Sprintf("got %v want %v", got, want), cmp.Equal(want, got)
	})
}

const (
	infoLow0 = "intel.com-low-0000:01:10.0-device.json"
	infoLow1 = "intel.com-low-0000:01:10.2-device.json"
	infoPrev = "intel.com-low-x-0000:01:10.0-device.json"
)

// TestDeviceInfo: one file a device, none of others touched, all there after
// the plugin has ended.
func TestDeviceInfo(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	dir := filepath.Join(k.root, "devinfo", "dp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, infoPrev), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	inv := &inventory{snap: nic(4, "igbvf")}
	_, stop := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: inv, DeviceInfoDir: dir})
	hasFiles(t, dir, infoLow0, infoLow1, infoPrev)
	inv.set(nic(1, "igbvf"))
	hasFiles(t, dir, infoLow0, infoPrev)
	stop()
	hasFiles(t, dir, infoLow0, infoPrev)
	text, err := os.ReadFile(filepath.Join(dir, infoLow0))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:10.0","pf-pci-address":"0000:01:00.0"}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDeviceInfoBeforeTheDevice: when the kubelet hears of a device, its file is
// there, however many there are.
func TestDeviceInfoBeforeTheDevice(t *testing.T) {
	k := newKubelet(t, true)
	dir := filepath.Join(k.root, "devinfo")
	k.told = func(resource string, devices []*pluginapi.Device) {
		for _, d := range devices {
			name := strings.ReplaceAll(resource, "/", "-") + "-" + d.ID + "-device.json"
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("the kubelet is told of %s: %v", d.ID, err)
			}
		}
	}
	k.start()
	inv := &inventory{snap: farm(0)}
	plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, allFarm), Inventory: inv, DeviceInfoDir: dir})
	k.shows("intel.com/all:")
	inv.set(farm(128))
	waitFor(t, func() (string, bool) {
		n := strings.Count(k.String(), " ")
		return fmt.Sprint(n, " devices"), n == 1024
	})
}

// TestForget: uninstalling removes what the plugin has left, and no file of
// others; twice is once.
func TestForget(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	dir, cdi := filepath.Join(k.root, "devinfo", "dp"), filepath.Join(k.root, "cdi")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, infoPrev), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	_, stop := plugin(t, deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, DeviceInfoDir: dir, CDIDir: cdi})
	hasFiles(t, dir, infoLow0, infoLow1, infoPrev)
	stop()
	for range 2 {
		if err := deviceplugin.Forget(dir, cdi); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != infoPrev {
		t.Errorf("left: %v, want the file of others alone", left)
	}
	if left, _ := os.ReadDir(cdi); len(left) > 0 {
		t.Errorf("left for CDI: %v", left)
	}
}

// TestDeviceInfoInUse: the pool goes while the program is down; the file of the
// device that a pod has stays until the pod is gone, the other goes.
func TestDeviceInfoInUse(t *testing.T) {
	k := newKubelet(t, true)
	k.start()
	n := &node{}
	n.set(held("01:10.0", "intel.com/low", "pod blue/web"))
	dir := filepath.Join(k.root, "devinfo")
	o := deviceplugin.Options{KubeletRoot: k.root, Config: config(t, twoPools), Inventory: &inventory{snap: nic(4, "igbvf")}, DeviceInfoDir: dir, Holdings: n.holdings}
	_, stop := plugin(t, o)
	hasFiles(t, dir, infoLow0, infoLow1)
	stop()
	o.Config = config(t, renamed)
	p, _ := plugin(t, o)
	const high0, high1 = "intel.com-high-0000:01:10.0-device.json", "intel.com-high-0000:01:10.2-device.json"
	k.shows("intel.com/high: 01:10.0(Unhealthy)@0 01:10.2@0")
	hasFiles(t, dir, high0, high1, infoLow0)
	n.set()
	p.Recount()
	hasFiles(t, dir, high0, high1)
}

// TestDeviceInfoForms: what the specification has for RDMA and vDPA.
func TestDeviceInfoForms(t *testing.T) {
	cfg := config(t, `{"resourceList":[
		{"resourceName":"rdma","selectors":{"pfNames":["ens4#0"],"isRdma":true}},
		{"resourceName":"vhost","selectors":{"vdpaType":"vhost"}},
		{"resourceName":"virtio","selectors":{"vdpaType":"virtio"}}]}`)
	snap := nic(3, "mlx5_core")
	snap.VFs[0].RDMA, snap.VFs[0].Userspace.RDMA = []string{"mlx5_2", "mlx5_3"}, []string{"uverbs2", "uverbs3"}
	snap.VFs[1].Userspace.VDPA = vf.VDPA{Name: "vdpa:0000:01:10.2", Driver: "vhost_vdpa", Node: "vhost-vdpa-1"}
	snap.VFs[2].Userspace.VDPA = vf.VDPA{Name: "vdpa2", Driver: "virtio_vdpa"}
	want := []string{
		`{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:10.0","rdma-device":"mlx5_2,mlx5_3","pf-pci-address":"0000:01:00.0"}}`,
		`{"type":"vdpa","version":"1.1.0","vdpa":{"parent-device":"vdpa:0000:01:10.2","driver":"vhost","path":"/dev/vhost-vdpa-1","pci-address":"0000:01:10.2"}}`,
		`{"type":"vdpa","version":"1.1.0","vdpa":{"parent-device":"vdpa2","driver":"virtio","pci-address":"0000:01:10.4"}}`,
	}
	for i, p := range deviceplugin.Pools(cfg, snap, deviceplugin.Host{}) {
		_, content, err := p.InfoFile(p.Devices[0])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i], string(content)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
