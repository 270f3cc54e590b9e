//go:build cluster

package deviceplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestOnARealKubelet holds the order: later parts play on the same stage.
func TestOnARealKubelet(t *testing.T) {
	// The kubelet tells the API server every second what it knows, and looks at
	// ConfigMaps as often: both are minutes in a real cluster, for its size. Its
	// log says when it was told of devices.
	kubelet := map[string]any{"nodeStatusUpdateFrequency": "1s", "syncFrequency": "2s", "logging": map[string]any{"verbosity": 2}}
	p := &play{
		Suite: suite.Open(t, stage.Options{Nodes: 1, Kubelet: kubelet}),
		pools: map[string]string{"sriov0": onSriov0},
	}
	config, err := p.RESTConfig()
	p.Must(t, err)
	p.api, err = kubernetes.NewForConfig(config)
	p.Must(t, err)
	p.process = p.daemon(t)
	p.Acts(t,
		suite.Scene{Name: "ConfigChanged", Run: p.configChanged},
		suite.Scene{Name: "BadConfigLeavesThePools", Run: p.badConfig},
		suite.Scene{Name: "SysfsWriteShows", Run: p.sysfsWrite},
		suite.Scene{Name: "VfioNodesInTheContainer", Run: p.vfio},
		suite.Scene{Name: "KubeletRestarted", Run: p.kubeletRestarted},
		suite.Scene{Name: "Invariant4PoolRenamedUnderPods", Run: p.renamed},
		suite.Scene{Name: "DaemonRestartedWithAllInPods", Run: p.daemonRestarted},
		suite.Scene{Name: "NodesByCDI", Run: p.cdi},
	)
}

type play struct {
	*suite.Suite
	api *kubernetes.Clientset
	// pools are the selectors of the ConfigMap by resource name.
	pools map[string]string
	// process is the daemon's container, which stays the same one but for the
	// scenes that restart it.
	process string
}

const (
	onSriov0 = `{"drivers": ["igbvf"], "pfNames": ["sriov0"]}`
	onSriov1 = `{"drivers": ["igbvf"], "pfNames": ["sriov1"]}`
	allInOne = "all"
)

// daemon identifies the daemon's running container.
func (p *play) daemon(t *testing.T) string {
	t.Helper()
	return p.Ask(t, "-n", "tendril-system", "get", "pods", "-l", "app.kubernetes.io/name=tendrild",
		"-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
}

// sameDaemon fails if the daemon was started again.
func (p *play) sameDaemon(t *testing.T) {
	t.Helper()
	if now := p.daemon(t); now != p.process {
		t.Errorf("the daemon was restarted: %s, before %s", now, p.process)
	}
}

// configure writes the ConfigMap with these pools.
func (p *play) configure(t *testing.T, pools map[string]string) {
	t.Helper()
	var list []string
	for name, selectors := range pools {
		list = append(list, fmt.Sprintf(`{"resourcePrefix": "tendril.dev", "resourceName": %q, "selectors": %s}`, name, selectors))
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "tendril-pools", "namespace": "tendril-system"},
		"data":     map[string]string{"config.json": `{"resourceList": [` + strings.Join(list, ", ") + `]}`},
	})
	p.Must(t, err)
	p.Must(t, p.Apply(p.Ctx, string(data)))
	p.pools = pools
}

// offers waits until the node offers that much, name=number each, and returns how
// long that took.
func (p *play) offers(t *testing.T, want ...string) time.Duration {
	t.Helper()
	start := time.Now()
	p.Must(t, p.Await(p.Ctx, "the node to offer "+strings.Join(want, " "), func(context.Context) (string, bool, error) {
		seen, err := p.offered(want)
		for deadline := time.Now().Add(250 * time.Millisecond); err == nil && seen != strings.Join(want, " ") && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
			seen, err = p.offered(want)
		}
		return seen, err == nil && seen == strings.Join(want, " "), err
	}))
	return time.Since(start)
}

// offered prints what the node's status has as allocatable for the names in want.
func (p *play) offered(want []string) (string, error) {
	node, err := p.api.CoreV1().Nodes().Get(p.Ctx, cluster.NodeName(1), metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var seen []string
	for _, w := range want {
		name, _, _ := strings.Cut(w, "=")
		for resource, n := range node.Status.Allocatable {
			if string(resource) == "tendril.dev/"+name {
				seen = append(seen, name+"="+n.String())
			}
		}
	}
	return strings.Join(seen, " "), nil
}

// pod runs a pod of the tools image with that many devices of the resource, and
// as many VFs of the network "fast" attached as networks says.
func (p *play) pod(t *testing.T, name, resource string, devices, networks int) {
	t.Helper()
	var fast []string
	for range networks {
		fast = append(fast, "fast")
	}
	p.Must(t, p.Apply(p.Ctx, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  annotations: {k8s.v1.cni.cncf.io/networks: "%s"}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: %s
      imagePullPolicy: Never
      command: [sleep, infinity]
      resources: {limits: {%s: %d}}
`, name, strings.Join(fast, ","), cluster.ToolsImage, "tendril.dev/"+resource, devices)))
}

// configChanged: a pool comes without a restart of the daemon.
func (p *play) configChanged(t *testing.T) {
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
	p.Must(t, p.Await(p.Ctx, "the daemon to refuse the configuration", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "logs", "-l", "app.kubernetes.io/name=tendrild", "--tail=20")
		return out, strings.Contains(out, strings.ReplaceAll(said, `\"`, `\\\"`)) || strings.Contains(out, said), err
	}))
	if out := p.Shell(t, 1, "busybox wget -qO- http://127.0.0.1:9771/metrics | grep pool_config_refused"); !strings.Contains(out, `source="file"} 1`) {
		t.Errorf("metrics say %s", out)
	}
	p.offers(t, "sriov0=7", "sriov1=7")
	p.configure(t, good)
	p.Must(t, p.Await(p.Ctx, "the configuration to be good again", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "busybox wget -qO- http://127.0.0.1:9771/metrics | grep pool_config_refused")
		return out, strings.Contains(out, `source="file"} 0`), err
	}))
	p.offers(t, "sriov0=7", "sriov1=7")
	p.sameDaemon(t)
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

const dpdk = `{"drivers": ["vfio-pci"], "pfNames": ["sriov1"]}`

// vfio: a VF changes to vfio-pci, so it changes its pool, and a container gets its
// nodes at the first Allocate.
func (p *play) vfio(t *testing.T) {
	p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1, "dpdk": dpdk})
	p.userspace(t, func() {})
	p.sameDaemon(t)
}

// userspace gives a container a VF on vfio-pci, looks at what it got, and at
// whatever during does, and binds the VF back.
func (p *play) userspace(t *testing.T, during func()) {
	t.Helper()
	p.offers(t, "dpdk=0", "sriov1=7")
	group := p.Shell(t, 1, fmt.Sprintf(bind, "vfio-pci"))
	t.Logf("another driver shows after %v", p.offers(t, "dpdk=1", "sriov1=6"))
	p.pod(t, "userspace", "dpdk", 1, 0)
	p.Must(t, p.PodReady(p.Ctx, "userspace"))
	out, err := p.Exec(p.Ctx, "userspace", "sh", "-c", "ls /dev/vfio; env | grep PCIDEVICE")
	p.Must(t, err)
	for _, want := range []string{group + "\n", "vfio\n", "PCIDEVICE_TENDRIL_DEV_DPDK=0000:", `"dev-mount":"/dev/vfio/` + group + `"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the container's\n%s", want, out)
		}
	}
	during()
	p.Must(t, p.PodGone(p.Ctx, "userspace"))
	p.Shell(t, 1, fmt.Sprintf(bind, `""`))
	p.offers(t, "dpdk=0", "sriov1=7")
}

const cdiFile = "/var/run/cdi/tendril.dev-net.json"

// cdi: the same container gets the same nodes, by a name that the runtime
// resolves; the specification goes with the last device that needs it.
func (p *play) cdi(t *testing.T) {
	p.process = p.daemon(t)
	p.Ask(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=json",
		"-p", `[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--use-cdi"}]`)
	p.awaitAnother(t)
	p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1, "dpdk": dpdk})
	p.userspace(t, func() {
		if spec := p.Shell(t, 1, "cat "+cdiFile); !strings.Contains(spec, "tendril.dev_dpdk_0000:") {
			t.Errorf("specification: %s", spec)
		}
		// What was started runs on without the pool, and could be started again.
		p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1})
		p.Must(t, p.Await(p.Ctx, "the pool to go", func(ctx context.Context) (string, bool, error) {
			out, err := p.Script(ctx, 1, "busybox wget -qO- http://127.0.0.1:9771/pools")
			return out, err == nil && !strings.Contains(out, "tendril.dev/dpdk "), err
		}))
		if spec := p.Shell(t, 1, "cat "+cdiFile); !strings.Contains(spec, "tendril.dev_dpdk_0000:") {
			t.Errorf("specification of a device in use, its pool gone: %s", spec)
		}
		p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1, "dpdk": dpdk})
		p.offers(t, "dpdk=1")
	})
	p.Must(t, p.Await(p.Ctx, "the specification to go", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "cat "+cdiFile+" 2>/dev/null || true")
		return out, err == nil && out == "", err
	}))
}

// awaitAnother waits until another daemon than before is ready.
func (p *play) awaitAnother(t *testing.T) {
	t.Helper()
	p.Must(t, p.Await(p.Ctx, "another daemon to be ready", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-l", "app.kubernetes.io/name=tendrild",
			"-o", `jsonpath={range .items[*]}{.status.containerStatuses[*].containerID} {.status.containerStatuses[*].ready}{end}`)
		id, ready, _ := strings.Cut(out, " ")
		return out, err == nil && ready == "true" && id != "" && id != p.process, err
	}))
	p.process = p.daemon(t)
}

// kubeletRestarted: the node offers what it did, and a pod gets a VF.
func (p *play) kubeletRestarted(t *testing.T) {
	p.Must(t, p.RestartKubelet(p.Ctx, 1))
	t.Logf("all is offered %v after the kubelet is back", p.offers(t, "sriov0=7", "sriov1=7"))
	p.Must(t, p.ApplyFiles(p.Ctx, "deployment/examples/networks.yaml"))
	p.pod(t, "after", "sriov0", 1, 1)
	p.Must(t, p.PodReady(p.Ctx, "after"))
	p.Must(t, p.PodGone(p.Ctx, "after"))
	p.sameDaemon(t)
}

// renamed: the pool of a VF in a pod gets another name. The VF is not offered
// under that name until the pod is gone.
func (p *play) renamed(t *testing.T) {
	p.pod(t, "holder", "sriov0", 1, 1)
	p.Must(t, p.PodReady(p.Ctx, "holder"))
	p.configure(t, map[string]string{allInOne: `{"drivers": ["igbvf"]}`})
	p.offers(t, allInOne+"=13")
	page := p.Shell(t, 1, "busybox wget -qO- http://127.0.0.1:9771/pools")
	if !strings.Contains(page, "held by pod default/holder as tendril.dev/sriov0") {
		t.Errorf("the page of pools does not name the holder:\n%s", page)
	}
	p.Must(t, p.PodGone(p.Ctx, "holder"))
	t.Logf("the VF is offered under the new name %v after the pod is gone", p.offers(t, allInOne+"=14"))
	p.configure(t, map[string]string{"sriov0": onSriov0, "sriov1": onSriov1})
	p.offers(t, "sriov0=7", "sriov1=7")
	p.sameDaemon(t)
}

// daemonRestarted: with every VF of a PF in a pod, so that the host shows no
// network device of any of them, another daemon offers what the one before did.
func (p *play) daemonRestarted(t *testing.T) {
	p.pod(t, "full", "sriov0", 7, 7)
	p.Must(t, p.PodReady(p.Ctx, "full"))
	if left := p.Shell(t, 1, "ls -d /sys/class/net/sriov0/device/virtfn*/net/* 2>/dev/null | wc -l"); left != "0" {
		t.Errorf("%s VFs of sriov0 still have a device on the host", left)
	}
	p.Ask(t, "-n", "tendril-system", "delete", "pods", "-l", "app.kubernetes.io/name=tendrild", "--wait=true")
	p.awaitAnother(t)
	t.Logf("all is offered %v after the daemon is ready again", p.offers(t, "sriov0=7", "sriov1=7"))
	if out, err := p.Exec(p.Ctx, "full", "sh", "-c", "ls /sys/class/net | grep -c net"); err != nil || strings.TrimSpace(out) != "7" {
		t.Errorf("the pod has %s interfaces, %v", out, err)
	}
	p.pod(t, "one", "sriov0", 1, 1)
	p.Must(t, p.Await(p.Ctx, "the scheduler to say that nothing is left", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name=one", "-o", "jsonpath={.items[*].message}")
		return out, strings.Contains(out, "Insufficient tendril.dev/sriov0"), err
	}))
	p.Must(t, p.PodGone(p.Ctx, "full"))
	p.Must(t, p.PodReady(p.Ctx, "one"))
	p.Must(t, p.PodGone(p.Ctx, "one"))
}
