//go:build cluster

package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
	"github.com/tendril-cni/tendril/webhook/report"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestOnTheCluster is one life of an installation: each scene stands on those
// before it.
func TestOnTheCluster(t *testing.T) {
	root, err := cache.Repo()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p := &play{Suite: &suite.Suite{Ctx: t.Context()}, root: root}
	p.source = p.previous(t)
	image := p.imageOf(t)
	p.Stage, err = stage.Up(t.Context(), stage.Options{Nodes: 1, Root: root, Bare: true, Images: []string{image}, Say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}})
	p.Must(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	p.prepare(t)
	p.Acts(t,
		suite.Scene{Name: "PodWithAVFInThreeCommands", Run: p.install},
		suite.Scene{Name: "Invariant10TokenStaysInTheContainer", Run: p.token},
		suite.Scene{Name: "UninstallIsRefusedUnderAPod", Run: p.refused},
		suite.Scene{Name: "UninstallLeavesNothing", Run: p.uninstalled},
		suite.Scene{Name: "UpgradeFromThePreviousCommit", Run: p.upgrade},
	)
}

type play struct {
	*suite.Suite
	root string
	// source is the repository of the previous commit.
	source string
	// before is the node without Tendril.
	before string
}

// worldOfFiles prints what an installation may leave on a node: files where CNI,
// devices and state are, with the checksums of configurations, links, and addresses
// in use. The runtime's own cache (/var/lib/cni/results) is left out: it deletes by
// the network's name of the day, and so keeps what it wrote for pods that were
// attached before Tendril came and deleted after.
const worldOfFiles = `
find /etc/cni /opt/cni /run/tendril /run/multus /run/cdi /var/run/cdi /run/k8s.cni.cncf.io /var/lib/tendril /var/lib/cni \
  /var/lib/kubelet/device-plugins /var/lib/kubelet/plugins_registry -type f -o -type l -o -type s -o -name '*tendril*' 2>/dev/null |
  grep -v -e /cni/networks/ -e /cni/results/ -e kubelet_internal_checkpoint | sort
find /etc/cni -type f | sort | xargs sha256sum
ls /sys/class/net | grep -v ^veth
for pf in sriov0 sriov1; do ls -d /sys/class/net/$pf/device/virtfn*/net/*; ip link show $pf | grep -o 'vf [0-9].*'; done
mount | grep -c tendril
echo addresses of the default network: $(ls /var/lib/cni/networks/lab 2>/dev/null | grep -c '^10\.')
true
`

func (p *play) world(t *testing.T) string {
	t.Helper()
	out, err := p.Script(p.Ctx, 1, worldOfFiles)
	p.Must(t, err)
	return out
}

func (p *play) manifest(name string) string {
	return filepath.Join(p.root, "deployment", "manifests", name)
}

func (p *play) example(name string) string {
	return filepath.Join(p.root, "deployment", "examples", name)
}

// prepare has the node's default network used once, gives the tools image the
// name that the example has, and notes the node.
func (p *play) prepare(t *testing.T) {
	_, err := p.Script(p.Ctx, 1, "ctr -n k8s.io images tag "+cluster.ToolsImage+" docker.io/library/busybox:1.37")
	p.Must(t, err)
	p.plain(t, "before")
	p.before = p.world(t)
}

// plain starts a pod of the default network, and wants it gone again.
func (p *play) plain(t *testing.T, name string) {
	t.Helper()
	p.Must(t, p.Apply(p.Ctx, stage.Pod{Name: name}.String()))
	p.Must(t, p.PodReady(p.Ctx, name))
	p.Must(t, p.PodGone(p.Ctx, name))
}

// install is the quick start. The waits between the commands are for the log
// alone: kubectl goes on at once for a person, and the pod waits by itself.
func (p *play) install(t *testing.T) {
	start := time.Now()
	p.Ask(t, "apply", "-f", p.manifest("tendril.yaml"))
	p.rolledOut(t)
	t.Logf("installed after %.1fs", time.Since(start).Seconds())
	p.Ask(t, "apply", "-f", p.example("quickstart-networks.yaml"))
	p.Ask(t, "apply", "-f", p.example("quickstart-pod.yaml"))
	p.Must(t, p.PodReady(p.Ctx, "quickstart"))
	t.Logf("a pod with a VF after %.1fs", time.Since(start).Seconds())
	p.hasVF(t)
	memory, err := p.Script(p.Ctx, 1, `for n in tendrild tendril-controller; do for pid in $(busybox pidof $n); do echo $n $(grep -h -e VmRSS -e VmHWM /proc/$pid/status); done; done; true`)
	p.Must(t, err)
	t.Logf("memory:\n%s", memory)
}

func (p *play) rolledOut(t *testing.T) {
	t.Helper()
	p.Ask(t, "-n", "tendril-system", "rollout", "status", "daemonset/tendrild", "--timeout=300s")
	p.Ask(t, "-n", "tendril-system", "rollout", "status", "deployment/tendril-controller", "--timeout=300s")
}

func (p *play) hasVF(t *testing.T) {
	t.Helper()
	p.Wait(t, "the pod to have a VF with an address beside eth0", func(ctx context.Context) (string, bool, error) {
		got, err := p.Interfaces(ctx, "quickstart")
		return fmt.Sprintf("%+v", got), len(got) == 2 && got[1].Kind == "sriov" && got[1].Device != "" && len(got[1].IPs) == 1, err
	})
	out, err := p.Exec(p.Ctx, "quickstart", "ip", "-4", "addr", "show", "net1")
	if err != nil || !strings.Contains(out, "inet 10.56.9.") {
		t.Errorf("net1 in the pod: %s (%v)", out, err)
	}
}

// token: nothing that Tendril puts on the node can talk to the API server.
func (p *play) token(t *testing.T) {
	out, err := p.Script(p.Ctx, 1, `grep -rlE 'eyJ[A-Za-z0-9_-]{20,}\.eyJ|client-key|current-context' /etc/cni /opt/cni/bin/tendril /run/tendril /var/lib/tendril 2>/dev/null; true`)
	p.Must(t, err)
	if strings.TrimSpace(out) != "" {
		t.Errorf("credentials in %s", out)
	}
}

// refused: applied over a pod that has a VF, the uninstaller says which, and
// applying the installation again brings the daemon back to it.
func (p *play) refused(t *testing.T) {
	p.Invariant10NothingDenied(t) // of the installation; from here on rights are taken away
	p.Ask(t, "delete", "-f", p.manifest("controller.yaml"))
	p.Ask(t, "-n", "tendril-system", "wait", "--for=delete", "pods", "-l", "app.kubernetes.io/name=tendril-controller", "--timeout=300s")
	p.Ask(t, "apply", "-f", p.manifest("uninstall.yaml"))
	p.Wait(t, "the uninstaller to name the pod", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-l", "app.kubernetes.io/name=tendrild",
			"-o", "jsonpath={.items[*].status.initContainerStatuses[*].lastState.terminated.message}{.items[*].status.initContainerStatuses[*].state.terminated.message}")
		return out, strings.Contains(out, "default/quickstart") && strings.Contains(out, "pods with networks of Tendril"), err
	})
	if out, err := p.Script(p.Ctx, 1, "ls /etc/cni/net.d"); err != nil || !strings.Contains(out, "00-tendril.conflist") {
		t.Errorf("the configuration is gone before the pod: %s (%v)", out, err)
	}
	p.Ask(t, "apply", "-f", p.manifest("node.yaml"))
	p.Ask(t, "-n", "tendril-system", "rollout", "status", "daemonset/tendrild", "--timeout=300s")
	p.hasVF(t)
	p.Must(t, p.PodGone(p.Ctx, "quickstart"))
}

// noted are the arguments that take the daemons' annotations off Node objects;
// tests/chart holds docs/install.md against the same list.
func noted() (out []string) {
	for _, name := range report.Annotations {
		out = append(out, name+"-")
	}
	return out
}

func (p *play) uninstalled(t *testing.T) {
	p.Ask(t, "apply", "-f", p.manifest("uninstall.yaml"))
	p.Ask(t, "-n", "tendril-system", "rollout", "status", "daemonset/tendrild", "--timeout=300s")
	p.Ask(t, "delete", "-f", p.manifest("node.yaml"))
	p.Ask(t, append([]string{"annotate", "nodes", "--all"}, noted()...)...)
	p.plain(t, "after")
	p.Wait(t, "the node to be as before", func(context.Context) (string, bool, error) {
		after := p.world(t)
		return "after:\n" + after + "\nbefore:\n" + p.before, after == p.before, nil
	})
	out := p.Ask(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.annotations}{.items[*].spec.taints}")
	if strings.Contains(out, "tendril.dev") {
		t.Errorf("left on the Node object: %s", out)
	}
	for _, kind := range []string{"crd", "clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration", "validatingwebhookconfiguration", "validatingadmissionpolicy", "validatingadmissionpolicybinding", "namespace"} {
		if out := p.Ask(t, "get", kind, "-o", "name"); strings.Contains(out, "tendril") {
			t.Errorf("left of kind %s: %s", kind, out)
		}
	}
}
