package deviceplugin_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
)

// farm is 8 PFs with perPF VFs each, on vfio-pci.
func farm(perPF int) *vf.Snapshot {
	snap := &vf.Snapshot{}
	for p := range 8 {
		pf := vf.MustAddr(fmt.Sprintf("0000:%02x:00.0", p+1))
		snap.PFs = append(snap.PFs, vf.PF{Addr: pf, Netdev: fmt.Sprint("eth", p), NumVFs: perPF})
		for i := range perPF {
			addr := vf.MustAddr(fmt.Sprintf("0000:%02x:%02x.%d", p+1, 1+i/8, i%8))
			snap.VFs = append(snap.VFs, vf.VF{Addr: addr, PF: pf, Index: i, Vendor: "8086", Device: "1889", Driver: "vfio-pci", NUMANode: p / 4, IOMMUGroup: len(snap.VFs)})
		}
	}
	return snap
}

const allFarm = `{"resourceList":[{"resourceName":"all","selectors":{"vendors":["8086"],"pfNames":["eth0","eth1","eth2","eth3","eth4","eth5","eth6","eth7#0-127"]}}]}`

// BenchmarkAllocate is the whole call over the socket, one device of 1,000, with
// every device's lease taken and looked up; it reports the 99th percentile beside
// the mean.
func BenchmarkAllocate(b *testing.B) {
	root, err := os.MkdirTemp("", "kl")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Mkdir(root+"/plugins_registry", 0o755); err != nil {
		b.Fatal(err)
	}
	p, stop := plugin(b, deviceplugin.Options{KubeletRoot: root, Config: config(b, allFarm), Inventory: &inventory{snap: farm(125)}})
	defer stop()
	path := root + "/plugins_registry/intel.com_all.sock"
	for {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	client := pluginapi.NewDevicePluginClient(conn)
	devices := p.Pools()[0].Devices
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := client.Allocate(b.Context(), request(devices[i%1000].ID)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkResponse is the pure part of Allocate with its 99th percentile.
func BenchmarkResponse(b *testing.B) {
	pool := deviceplugin.Pools(config(b, allFarm), farm(125), deviceplugin.Host{})[0]
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := pool.Response([]string{pool.Devices[i%1000].ID}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// BenchmarkPools is the rebuild of a snapshot with 1,024 VFs.
func BenchmarkPools(b *testing.B) {
	cfg, snap := config(b, allFarm), farm(128)
	for b.Loop() {
		if n := len(deviceplugin.Pools(cfg, snap, deviceplugin.Host{})[0].Devices); n != 1024 {
			b.Fatal(n)
		}
	}
}

// BenchmarkPrefer chooses 8 of 1,000 free devices.
func BenchmarkPrefer(b *testing.B) {
	pool := deviceplugin.Pools(config(b, allFarm), farm(125), deviceplugin.Host{})[0]
	var free []string
	for _, d := range pool.Devices {
		free = append(free, d.ID)
	}
	for b.Loop() {
		if _, err := pool.Prefer(free, nil, 8); err != nil {
			b.Fatal(err)
		}
	}
}
