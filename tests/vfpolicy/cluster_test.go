//go:build cluster

package vfpolicy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestPolicyOnACluster holds the order: later parts play on the same stage.
func TestPolicyOnACluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s, err := stage.Up(ctx, stage.Options{Nodes: 1, Root: root, Say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := &play{Stage: s, ctx: ctx}
	for _, scene := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Offered", p.offered},
		{"PlanIsPrinted", p.plan},
		{"Invariant6VFOfAPodIsNotTouched", p.inUse},
		{"MoreWithoutADrain", p.more},
	} {
		if !t.Run(scene.name, scene.run) {
			state, err := s.Kubectl(ctx, "get", "nodevfstates", "-o", "yaml")
			t.Log(s.Explain(), state, err)
			return
		}
	}
}

type play struct {
	*stage.Stage
	ctx context.Context
}

func (p *play) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// allocatable waits until the node offers n of the resource.
func (p *play) allocatable(t *testing.T, resource, n string) {
	t.Helper()
	p.must(t, p.Await(p.ctx, fmt.Sprintf("%s of tendril.dev/%s", n, resource), func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "node", "node1", "-o", fmt.Sprintf(`jsonpath={.status.allocatable.tendril\.dev/%s}`, resource))
		return out, out == n, err
	}))
}

// state waits until the node's state says all of the words.
func (p *play) state(t *testing.T, words ...string) {
	t.Helper()
	p.must(t, p.Await(p.ctx, fmt.Sprintf("the state to say %q", words), func(ctx context.Context) (string, bool, error) {
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
	p.must(t, p.ApplyFiles(p.ctx, "deployment/examples/vfpolicy.yaml"))
	p.allocatable(t, "kernel", "4")
	p.allocatable(t, "userspace", "1")
	p.state(t, "True")
	out, err := p.Script(p.ctx, 1, `basename $(readlink /sys/class/net/sriov1/device/virtfn4/driver)`)
	p.must(t, err)
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
	out, err := p.Kubectl(p.ctx, "-n", "tendril-system", "exec", "daemonset/tendrild", "--", "/usr/local/bin/tendrild", "--plan", "--node-name=node1")
	p.must(t, err)
	return out
}

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"tenant"},"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"` + cluster.ToolsImage + `",
	"imagePullPolicy":"Never","command":["sleep","100000"],"resources":{"limits":{"tendril.dev/kernel":"4"}}}]}}`

// inUse gives all kernel VFs to a pod and then wants them for userspace.
func (p *play) inUse(t *testing.T) {
	p.must(t, p.Apply(p.ctx, pod))
	p.must(t, p.PodReady(p.ctx, "tenant"))
	p.patch(t, `{"spec":{"driver":"vfio-pci","resourceName":"userspace","vfs":null}}`)
	p.state(t, "False", "default/tenant")
	if out := p.printed(t); !strings.Contains(out, "sriov1") || !strings.Contains(out, "default/tenant") {
		t.Errorf("the plan does not name PF and pod:\n%s", out)
	}
	out, err := p.Script(p.ctx, 1, `for i in 0 1 2 3; do basename $(readlink /sys/class/net/sriov1/device/virtfn$i/driver); done`)
	p.must(t, err)
	if out != "igbvf\nigbvf\nigbvf\nigbvf\n" {
		t.Errorf("VFs of a running pod are bound to\n%s", out)
	}
	p.must(t, p.PodGone(p.ctx, "tenant"))
	p.allocatable(t, "userspace", "5")
	p.state(t, "True")
}

func (p *play) patch(t *testing.T, patch string) {
	t.Helper()
	_, err := p.Kubectl(p.ctx, "patch", "vfpolicy", "sriov1", "--type=merge", "-p", patch)
	p.must(t, err)
}

func (p *play) more(t *testing.T) {
	p.patch(t, `{"spec":{"numVFs":7}}`)
	p.allocatable(t, "userspace", "7")
	p.patch(t, `{"spec":{"driver":null}}`)
	p.must(t, p.Await(p.ctx, "all VFs to be back with the kernel", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, `for i in 0 1 2 3 4 5 6; do basename $(readlink /sys/class/net/sriov1/device/virtfn$i/driver); done | sort | uniq -c`)
		return out, strings.Join(strings.Fields(out), " ") == "7 igbvf", err
	}))
	p.state(t, "True")
}
