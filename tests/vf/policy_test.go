//go:build cluster

package vf

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/stage"
)

// policy: four VFs for the kernel, one for userspace, whose nodes a container gets.
func (p *play) policy(t *testing.T) {
	p.Must(t, p.ApplyFiles(p.Ctx, "deployment/examples/vfpolicy.yaml"))
	p.offers(t, "kernel=4", "userspace=1")
	p.state(t, "True")
	if out := p.Shell(t, 1, `basename $(readlink /sys/class/net/sriov1/device/virtfn4/driver)`); out != "vfio-pci" {
		t.Errorf("VF 4 is bound to %q, want vfio-pci", out)
	}
	if out := p.plan(t); !strings.Contains(out, "nothing to do") {
		t.Errorf("all is done, and the plan is\n%s", out)
	}
	p.sameDaemon(t)
}

// state waits until the node's state says all of the words.
func (p *play) state(t *testing.T, words ...string) {
	t.Helper()
	p.Wait(t, fmt.Sprintf("the state to say %q", words), func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "nodevfstate", "node1", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.policies[*].message} {.status.conditions[*].message} {.status.pfs[*]}`)
		for _, w := range words {
			if !strings.Contains(out, w) {
				return out, false, err
			}
		}
		return out, true, err
	})
}

// plan is what tendrild --plan prints beside the running daemon.
func (p *play) plan(t *testing.T) string {
	t.Helper()
	return p.Ask(t, "-n", "tendril-system", "exec", "daemonset/tendrild", "--", "/usr/local/bin/tendrild", "--plan", "--node-name=node1")
}

func (p *play) patch(t *testing.T, patch string) {
	t.Helper()
	p.Ask(t, "patch", "vfpolicy", "sriov1", "--type=merge", "-p", patch)
}

// drivers are those of the first n VFs of sriov1, "none" for a VF that is between
// two of them.
func (p *play) drivers(t *testing.T, n int) string {
	t.Helper()
	return strings.Join(strings.Fields(p.Shell(t, 1, fmt.Sprintf(`for i in $(seq 0 %d); do basename $(readlink /sys/class/net/sriov1/device/virtfn$i/driver || echo none); done`, n-1))), " ")
}

// inUse gives all kernel VFs to a pod and then wants them for userspace.
func (p *play) inUse(t *testing.T) {
	p.Start(t, stage.Pod{Name: "tenant", Containers: []stage.Limits{{"tendril.dev/kernel": "4"}}})
	p.patch(t, `{"spec":{"driver":"vfio-pci","resourceName":"userspace","vfs":null}}`)
	p.state(t, "False", "default/tenant")
	if out := p.plan(t); !strings.Contains(out, "sriov1") || !strings.Contains(out, "default/tenant") {
		t.Errorf("the plan does not name PF and pod:\n%s", out)
	}
	if out := p.drivers(t, 4); out != "igbvf igbvf igbvf igbvf" {
		t.Errorf("VFs of a running pod are bound to %s", out)
	}
	p.Must(t, p.PodGone(p.Ctx, "tenant"))
	t.Logf("the VFs have their driver and are offered %v after the pod is gone", p.offers(t, "userspace=5"))
	p.state(t, "True")
}

// more: a larger number, and another driver, without a pod deleted for it. Without
// the policy the VFs stay as they are.
func (p *play) more(t *testing.T) {
	p.patch(t, `{"spec":{"numVFs":7}}`)
	p.offers(t, "userspace=7")
	p.patch(t, `{"spec":{"driver":null}}`)
	p.Wait(t, "all VFs to be back with the kernel", func(context.Context) (string, bool, error) {
		out := p.drivers(t, 7)
		return out, out == strings.TrimSpace(strings.Repeat("igbvf ", 7)), nil
	})
	p.state(t, "True")
	p.Ask(t, "delete", "vfpolicy", "sriov1")
	p.Wait(t, "the policy's pool to go", func(ctx context.Context) (string, bool, error) {
		out, err := p.page(ctx)
		return out, err == nil && !strings.Contains(out, "tendril.dev/userspace "), err
	})
}
