//go:build cluster

package vf

import (
	"context"
	"encoding/json"
	"fmt"
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

// TestOnARealKubelet holds the order: each part stands on what the ones before
// have left.
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
	p.Create(t, fast)
	p.Acts(t,
		suite.Scene{Name: "PoolAdded", Run: p.added},
		suite.Scene{Name: "BadConfigLeavesThePools", Run: p.badConfig},
		suite.Scene{Name: "SysfsWriteShows", Run: p.sysfsWrite},
		suite.Scene{Name: "DriverChangedByHand", Run: p.driver},
		suite.Scene{Name: "Invariant4PoolRenamedUnderPods", Run: p.renamed},
		suite.Scene{Name: "PolicyIsApplied", Run: p.policy},
		suite.Scene{Name: "Invariant6VFOfAPodIsNotTouched", Run: p.inUse},
		suite.Scene{Name: "MoreVFsWithoutADrain", Run: p.more},
		suite.Scene{Name: "DaemonRestartedWithAllInPods", Run: p.daemonRestarted},
		suite.Scene{Name: "NodesByCDI", Run: p.cdi},
	)
	if t.Failed() {
		t.Log(p.Kubectl(p.Ctx, "get", "nodevfstates", "-o", "yaml"))
	}
}

// fast is a network whose VFs have a VLAN.
var fast = stage.Network{Name: "fast", ResourceName: stage.Resource, Config: `{"cniVersion": "1.0.0", "type": "sriov", "vlan": 42}`}

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
	onSriov0  = `{"drivers": ["igbvf"], "pfNames": ["sriov0"]}`
	onSriov1  = `{"drivers": ["igbvf"], "pfNames": ["sriov1"]}`
	userspace = `{"drivers": ["vfio-pci"], "pfNames": ["sriov1"]}`
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

// page is the daemon's list of pools.
func (p *play) page(ctx context.Context) (string, error) {
	return p.Script(ctx, 1, "busybox wget -qO- http://127.0.0.1:9771/pools")
}
