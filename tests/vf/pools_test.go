//go:build cluster

package vf

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/stage"
)

// added: a pool comes without a restart of the daemon.
func (p *play) added(t *testing.T) {
	p.offers(t, "sriov0=7")
	p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1})
	t.Logf("a new pool of the ConfigMap is offered after %v", p.offers(t, "sriov0=7", "sriov1=7"))
	p.sameDaemon(t)
}

// badConfig: what is refused is named in full, and nothing changes.
func (p *play) badConfig(t *testing.T) {
	good := p.pools
	p.configure(t, map[string]string{"sriov1": `{"pfNames": ["sriov1#0,x"]}`})
	const said = `resource \"tendril.dev/sriov1\": field resourceList[0].selectors.pfNames[0]: value \"sriov1#0,x\" is not allowed`
	p.Wait(t, "the daemon to refuse the configuration", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "logs", "-l", "app.kubernetes.io/name=tendrild", "--tail=20")
		return out, strings.Contains(out, strings.ReplaceAll(said, `\"`, `\\\"`)) || strings.Contains(out, said), err
	})
	p.refused(t, 1)
	p.offers(t, "sriov0=7", "sriov1=7")
	p.configure(t, good)
	p.refused(t, 0)
	p.offers(t, "sriov0=7", "sriov1=7")
	p.sameDaemon(t)
}

// refused waits until the metrics say 1 for a file that is not in force, and 0 for
// one that is.
func (p *play) refused(t *testing.T, want int) {
	t.Helper()
	p.Wait(t, "the metrics to tell of the configuration", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "busybox wget -qO- http://127.0.0.1:9771/metrics | grep pool_config_refused")
		return out, strings.Contains(out, fmt.Sprintf(`source="file"} %d`, want)), err
	})
}

const numVFs = "/sys/class/net/sriov1/device/sriov_numvfs"

// sysfsWrite: VFs are taken away and made by hand. Where the time goes is in the
// log: the daemon's part ends when the kubelet has the list, the rest is the
// kubelet's own round of its node's status (a second here, ten as a rule).
func (p *play) sysfsWrite(t *testing.T) {
	for _, n := range []int{0, 4, 0, 7} {
		start := time.Now()
		ended := p.Shell(t, 1, fmt.Sprintf("echo %d > %s; date +%%s.%%N", n, numVFs))
		written := time.Now()
		p.offers(t, fmt.Sprintf("sriov1=%d", n))
		shown := time.Since(written)
		pool, list := p.told(t, ended)
		t.Logf("%d VFs: the write took %v; after it the pool was there in %v, the kubelet had it in %v, the node's status in %v",
			n, written.Sub(start), pool, list, shown)
	}
	p.sameDaemon(t)
}

// told returns how long after since, in the node's seconds, the daemon had the
// pool of sriov1 that it has now, and the kubelet the list of its devices.
func (p *play) told(t *testing.T, since string) (pool, list time.Duration) {
	t.Helper()
	seconds, err := strconv.ParseFloat(since, 64)
	p.Must(t, err)
	begin := time.UnixMicro(int64(seconds * 1e6)).UTC()
	out := p.Ask(t, "-n", "tendril-system", "logs", "-l", "app.kubernetes.io/name=tendrild", "--tail=-1")
	for line := range strings.Lines(out) {
		var entry struct {
			Time          time.Time
			Msg, Resource string
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "pool changed" && entry.Resource == "tendril.dev/sriov1" {
			pool = entry.Time.Sub(begin)
		}
	}
	// klog: Lmmdd hh:mm:ss.uuuuuu, without a year.
	stamp := strings.Fields(p.Shell(t, 1, `grep 'State pushed for device plugin.*tendril.dev/sriov1"' /var/log/kubelet.log | tail -n 1`))
	if len(stamp) < 2 {
		t.Fatal("the kubelet does not say when it was told")
	}
	at, err := time.Parse("2006 I0102 15:04:05", begin.Format("2006 ")+stamp[0]+" "+stamp[1])
	p.Must(t, err)
	return pool, at.Sub(begin)
}

const bind = `
cd /sys/class/net/sriov1/device/virtfn0
modprobe vfio-pci
echo %s > driver_override
basename $(readlink -f .) > driver/unbind
basename $(readlink -f .) > /sys/bus/pci/drivers_probe
basename $(readlink iommu_group)
`

// driver: a VF changes to vfio-pci, so it changes its pool, and a container gets
// its nodes at the first Allocate.
func (p *play) driver(t *testing.T) {
	p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1, "dpdk": userspace})
	p.offers(t, "dpdk=0", "sriov1=7")
	group := p.Shell(t, 1, fmt.Sprintf(bind, "vfio-pci"))
	t.Logf("another driver shows after %v", p.offers(t, "dpdk=1", "sriov1=6"))
	p.Start(t, stage.Pod{Name: "userspace", Containers: []stage.Limits{{"tendril.dev/dpdk": "1"}}})
	p.hasNodes(t, "userspace", "DPDK", group)
	p.Must(t, p.PodGone(p.Ctx, "userspace"))
	p.Shell(t, 1, fmt.Sprintf(bind, `""`))
	p.offers(t, "dpdk=0", "sriov1=7")
	p.sameDaemon(t)
}

// hasNodes looks for the vfio nodes of the group in a pod's container, and for what
// its environment says of them.
func (p *play) hasNodes(t *testing.T, pod, resource, group string) {
	t.Helper()
	out, err := p.Exec(p.Ctx, pod, "sh", "-c", "ls /dev/vfio; env | grep PCIDEVICE")
	p.Must(t, err)
	for _, want := range []string{group + "\n", "vfio\n", "PCIDEVICE_TENDRIL_DEV_" + resource + "=0000:", `"dev-mount":"/dev/vfio/` + group + `"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the container's\n%s", want, out)
		}
	}
}

// renamed: the pool of a VF in a pod gets another name. The VF is not offered
// under that name until the pod is gone.
func (p *play) renamed(t *testing.T) {
	p.Start(t, stage.Pod{Name: "holder", Networks: "fast", Containers: []stage.Limits{stage.VF("1")}})
	p.configure(t, map[string]string{"all": `{"drivers": ["igbvf"]}`})
	p.offers(t, "all=13")
	page, err := p.page(p.Ctx)
	p.Must(t, err)
	if !strings.Contains(page, "held by pod default/holder as tendril.dev/sriov0") {
		t.Errorf("the page of pools does not name the holder:\n%s", page)
	}
	p.Must(t, p.PodGone(p.Ctx, "holder"))
	t.Logf("the VF is offered under the new name %v after the pod is gone", p.offers(t, "all=14"))
	// The policies' scenes have sriov1 to themselves.
	p.configure(t, map[string]string{"sriov0": onSriov0})
	p.offers(t, "sriov0=7")
	p.sameDaemon(t)
}
