//go:build cluster

package vfpolicy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestPolicyOnACluster holds the order: later parts play on the same stage.
func TestPolicyOnACluster(t *testing.T) {
	p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1})}
	p.Acts(t,
		suite.Scene{Name: "Offered", Run: p.offered},
		suite.Scene{Name: "PlanIsPrinted", Run: p.plan},
		suite.Scene{Name: "Invariant6VFOfAPodIsNotTouched", Run: p.inUse},
		suite.Scene{Name: "MoreWithoutADrain", Run: p.more},
	)
	if t.Failed() {
		t.Log(p.Kubectl(p.Ctx, "get", "nodevfstates", "-o", "yaml"))
	}
}

type play struct{ *suite.Suite }

// allocatable waits until the node offers n of the resource.
func (p *play) allocatable(t *testing.T, resource, n string) {
	t.Helper()
	p.Must(t, p.Await(p.Ctx, fmt.Sprintf("%s of tendril.dev/%s", n, resource), func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "node", "node1", "-o", fmt.Sprintf(`jsonpath={.status.allocatable.tendril\.dev/%s}`, resource))
		return out, out == n, err
	}))
}

// state waits until the node's state says all of the words.
func (p *play) state(t *testing.T, words ...string) {
	t.Helper()
	p.Must(t, p.Await(p.Ctx, fmt.Sprintf("the state to say %q", words), func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "nodevfstate", "node1", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.policies[*].message} {.status.conditions[*].message} {.status.pfs[*]}`)
		for _, w := range words {
			if !strings.Contains(out, w) {
				return out, false, err
			}
		}
		return out, true, err
	}))
}

func (p *play) offered(t *testing.T) {
	p.Must(t, p.ApplyFiles(p.Ctx, "deployment/examples/vfpolicy.yaml"))
	p.allocatable(t, "kernel", "4")
	p.allocatable(t, "userspace", "1")
	p.state(t, "True")
	out, err := p.Script(p.Ctx, 1, `basename $(readlink /sys/class/net/sriov1/device/virtfn4/driver)`)
	p.Must(t, err)
	if strings.TrimSpace(out) != "vfio-pci" {
		t.Errorf("VF 4 is bound to %q, want vfio-pci", out)
	}
}

func (p *play) plan(t *testing.T) {
	if out := p.printed(t); !strings.Contains(out, "nothing to do") {
		t.Errorf("all is done, and the plan is\n%s", out)
	}
}

// printed is what tendrild --plan prints beside the running daemon.
func (p *play) printed(t *testing.T) string {
	t.Helper()
	out, err := p.Kubectl(p.Ctx, "-n", "tendril-system", "exec", "daemonset/tendrild", "--", "/usr/local/bin/tendrild", "--plan", "--node-name=node1")
	p.Must(t, err)
	return out
}

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"tenant"},"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"` + cluster.ToolsImage + `",
	"imagePullPolicy":"Never","command":["sleep","100000"],"resources":{"limits":{"tendril.dev/kernel":"4"}}}]}}`

// inUse gives all kernel VFs to a pod and then wants them for userspace.
func (p *play) inUse(t *testing.T) {
	p.Must(t, p.Apply(p.Ctx, pod))
	p.Must(t, p.PodReady(p.Ctx, "tenant"))
	p.patch(t, `{"spec":{"driver":"vfio-pci","resourceName":"userspace","vfs":null}}`)
	p.state(t, "False", "default/tenant")
	if out := p.printed(t); !strings.Contains(out, "sriov1") || !strings.Contains(out, "default/tenant") {
		t.Errorf("the plan does not name PF and pod:\n%s", out)
	}
	out, err := p.Script(p.Ctx, 1, `for i in 0 1 2 3; do basename $(readlink /sys/class/net/sriov1/device/virtfn$i/driver); done`)
	p.Must(t, err)
	if out != "igbvf\nigbvf\nigbvf\nigbvf\n" {
		t.Errorf("VFs of a running pod are bound to\n%s", out)
	}
	p.Must(t, p.PodGone(p.Ctx, "tenant"))
	p.allocatable(t, "userspace", "5")
	p.state(t, "True")
}

func (p *play) patch(t *testing.T, patch string) {
	t.Helper()
	_, err := p.Kubectl(p.Ctx, "patch", "vfpolicy", "sriov1", "--type=merge", "-p", patch)
	p.Must(t, err)
}

func (p *play) more(t *testing.T) {
	p.patch(t, `{"spec":{"numVFs":7}}`)
	p.allocatable(t, "userspace", "7")
	p.patch(t, `{"spec":{"driver":null}}`)
	p.Must(t, p.Await(p.Ctx, "all VFs to be back with the kernel", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, `for i in 0 1 2 3 4 5 6; do basename $(readlink /sys/class/net/sriov1/device/virtfn$i/driver); done | sort | uniq -c`)
		return out, strings.Join(strings.Fields(out), " ") == "7 igbvf", err
	}))
	p.state(t, "True")
}
