//go:build cluster

package vf

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/stage"
)

// daemonRestarted: with every VF of a PF in a pod, so that the host shows no
// network device of any of them, the daemon is replaced by one with other flags.
// The node's capacity does not shrink meanwhile, and the new daemon offers what the
// one before did.
func (p *play) daemonRestarted(t *testing.T) {
	all := strings.TrimSuffix(strings.Repeat("fast,", 7), ",")
	p.Start(t, stage.Pod{Name: "full", Networks: all, Containers: []stage.Limits{stage.VF("7")}})
	if left := p.Shell(t, 1, "ls -d /sys/class/net/sriov0/device/virtfn*/net/* 2>/dev/null | wc -l"); left != "0" {
		t.Errorf("%s VFs of sriov0 still have a device on the host", left)
	}
	p.process = p.daemon(t)
	p.Ask(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=json",
		"-p", `[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--use-cdi"}]`)
	p.awaitAnother(t)
	t.Logf("all is offered %v after the daemon is ready again", p.offers(t, "sriov0=7"))
	if out, err := p.Exec(p.Ctx, "full", "sh", "-c", "ls /sys/class/net | grep -c net"); err != nil || strings.TrimSpace(out) != "7" {
		t.Errorf("the pod has %s interfaces, %v", out, err)
	}
	p.Create(t, stage.Pod{Name: "one", Networks: "fast", Containers: []stage.Limits{stage.VF("1")}})
	p.Wait(t, "the scheduler to say that nothing is left", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name=one", "-o", "jsonpath={.items[*].message}")
		return out, strings.Contains(out, "Insufficient "+stage.Resource), err
	})
	p.Must(t, p.PodGone(p.Ctx, "full"))
	p.Must(t, p.PodReady(p.Ctx, "one"))
	p.Must(t, p.PodGone(p.Ctx, "one"))
}

// awaitAnother waits until another daemon than before is ready, and looks at the
// node's capacity meanwhile.
func (p *play) awaitAnother(t *testing.T) {
	t.Helper()
	p.Wait(t, "another daemon to be ready", func(ctx context.Context) (string, bool, error) {
		if n, err := p.Kubectl(ctx, "get", "node", "node1", "-o", `jsonpath={.status.capacity.tendril\.dev/sriov0}`); err == nil && n != "7" {
			t.Errorf("while the daemon is replaced the node's capacity is %q, want 7", n)
		}
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-l", "app.kubernetes.io/name=tendrild",
			"-o", `jsonpath={range .items[*]}{.status.containerStatuses[*].containerID} {.status.containerStatuses[*].ready}{end}`)
		id, ready, _ := strings.Cut(out, " ")
		return out, err == nil && ready == "true" && id != "" && id != p.process, err
	})
	p.process = p.daemon(t)
}

const cdiFile = "/var/run/cdi/tendril.dev-net.json"

// cdi: a container gets its nodes by a name that the runtime resolves; the
// specification outlives the pool while the pod does, and goes with the last device
// that needs it.
func (p *play) cdi(t *testing.T) {
	pools := map[string]string{"sriov0": onSriov0, "dpdk": userspace}
	p.configure(t, pools)
	group := p.Shell(t, 1, fmt.Sprintf(bind, "vfio-pci"))
	p.offers(t, "dpdk=1")
	p.Start(t, stage.Pod{Name: "userspace", Containers: []stage.Limits{{"tendril.dev/dpdk": "1"}}})
	p.hasNodes(t, "userspace", "DPDK", group)
	p.specified(t)
	p.configure(t, map[string]string{"sriov0": onSriov0})
	p.Wait(t, "the pool to go", func(ctx context.Context) (string, bool, error) {
		out, err := p.page(ctx)
		return out, err == nil && !strings.Contains(out, "tendril.dev/dpdk "), err
	})
	p.specified(t)
	p.Must(t, p.PodGone(p.Ctx, "userspace"))
	p.Wait(t, "the specification to go", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "cat "+cdiFile+" 2>/dev/null || true")
		return out, err == nil && out == "", err
	})
}

func (p *play) specified(t *testing.T) {
	t.Helper()
	if spec := p.Shell(t, 1, "cat "+cdiFile); !strings.Contains(spec, "tendril.dev_dpdk_0000:") {
		t.Errorf("specification: %s", spec)
	}
}
