//go:build cluster

package e2e

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

// TestOnTheCluster holds the order: later parts play on the same stage.
func TestOnTheCluster(t *testing.T) {
	s := suite.Open(t, stage.Options{Nodes: 2})
	p := &play{Suite: s, ctx: s.Ctx, before: s.Before}
	p.Scenes(t,
		suite.Scene{Name: "PodsReachEachOtherOverEveryNetwork", Run: p.pods},
		suite.Scene{Name: "Invariant5AddressesOverTwoNodes", Run: p.addresses},
		suite.Scene{Name: "CommandLine", Run: p.commandLine},
		suite.Scene{Name: "Invariant1NoPodWithoutTheDaemon", Run: p.daemonAway},
		suite.Scene{Name: "Invariant9RefusalsReachThePod", Run: p.refusals},
		suite.Scene{Name: "DaemonKilledUnderRunningPods", Run: p.daemonKilled},
		suite.Scene{Name: "KubeletRestarted", Run: p.kubeletRestarted},
	)
}

type play struct {
	*suite.Suite
	ctx    context.Context
	before []string
}

func (p *play) must(t *testing.T, err error) { t.Helper(); p.Must(t, err) }

func (p *play) kubectl(t *testing.T, args ...string) string { t.Helper(); return p.Ask(t, args...) }

func (p *play) examples(t *testing.T) {
	t.Helper()
	p.must(t, p.ApplyFiles(p.ctx, "deployment/examples/networks.yaml", "deployment/examples/pod-red.yaml", "deployment/examples/pod-green.yaml"))
	p.must(t, p.PodReady(p.ctx, "red", "green"))
}

func (p *play) gone(t *testing.T, pods ...string) { t.Helper(); p.Gone(t, pods...) }

func (p *play) pods(t *testing.T) {
	p.examples(t)
	red, err := p.Interfaces(p.ctx, "red")
	p.must(t, err)
	green, err := p.Interfaces(p.ctx, "green")
	p.must(t, err)
	var got []string
	for i, in := range red {
		got = append(got, fmt.Sprintf("%s %s %s vlan=%d ips=%d", in.Name, in.Network, in.Kind, in.VLAN, len(in.IPs)))
		for _, ip := range green[i].IPs {
			p.must(t, p.Ping(p.ctx, "red", in.Name, ip))
		}
	}
	want := "eth0 lab default vlan=0 ips=1, net1 default/fast sriov vlan=42 ips=1, store0 default/storage macvlan vlan=0 ips=2, net3 default/signalling ipvlan vlan=0 ips=1"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("network-status says\n%s\nwant\n%s", s, want)
	}
	if red[2].MAC != "02:00:00:00:56:11" {
		t.Errorf("macvlan has MAC %s, want the one asked for", red[2].MAC)
	}
	events := p.kubectl(t, "get", "events", "--field-selector", "involvedObject.name=red,reason=AddedInterface", "-o", "jsonpath={.items[*].message}")
	for _, n := range []string{"default/fast", "default/storage", "default/signalling"} {
		if !strings.Contains(events, n) {
			t.Errorf("no AddedInterface event for %s: %s", n, events)
		}
	}
	p.gone(t, "red", "green")
}

// daemonAway takes the daemon off the nodes: the pod has to wait, with an event
// that says why, and has all its networks when the daemon is back.
func (p *play) daemonAway(t *testing.T) {
	p.kubectl(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}`)
	p.must(t, p.Await(p.ctx, "the daemon to be off the nodes", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-o", "name")
		return out, err == nil && strings.TrimSpace(out) == "", err
	}))
	p.must(t, p.ApplyFiles(p.ctx, "deployment/examples/networks.yaml", "deployment/examples/pod-net.yaml"))
	p.must(t, p.Await(p.ctx, "the event of the refused sandbox", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name=plain", "-o", "jsonpath={.items[*].message}")
		// Where the kubelet has asked for the network's status first, the node is
		// not ready and the pod is not even placed.
		return out, strings.Contains(out, "tendril.sock") || strings.Contains(out, "untolerated taint"), err
	}))
	if phase := p.kubectl(t, "get", "pod", "plain", "-o", "jsonpath={.status.phase}{.status.podIP}"); phase != "Pending" {
		t.Errorf("without the daemon the pod is %q, want Pending and no address", phase)
	}
	p.kubectl(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector"}]`)
	p.must(t, p.PodReady(p.ctx, "plain"))
	got, err := p.Interfaces(p.ctx, "plain")
	p.must(t, err)
	if len(got) != 2 {
		t.Errorf("pod has %+v, want eth0 and net1", got)
	}
	p.ready(t)
	p.gone(t, "plain")
}

func (p *play) ready(t *testing.T) { t.Helper(); p.Ready(t) }

// bad are inputs that must be refused, and what the pod's event has to say:
// object, field, value, allowed.
var bad = []struct {
	name, config, networks string
	want                   []string
}{
	{"malformed", "", `[{"name": "x"`, []string{"k8s.v1.cni.cncf.io/networks", "line 1"}},
	{"unknown", "", `nowhere`, []string{"k8s.v1.cni.cncf.io/networks", "default/nowhere", "that exists"}},
	{"vlan", `{"type":"sriov","vlan":4095}`, `vlan`, []string{"default/vlan", "vlan", "4095", "0..4094"}},
	{"master", `{"type":"macvlan","master":"ens99"}`, `master`, []string{"master", "ens99", "sriov1"}},
	{"exhausted", `{"type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.99.0.0/30"}}`, `exhausted,exhausted`, []string{"default/exhausted", "10.99.0.1-10.99.0.2", "1 of 1"}},
	{"taken", `{"type":"macvlan","master":"sriov1"}`, `taken@eth0`, []string{"interface", "eth0"}},
}

func (p *play) refusals(t *testing.T) {
	for _, b := range bad {
		t.Run(b.name, func(t *testing.T) {
			if b.config != "" {
				p.must(t, p.Apply(p.ctx, fmt.Sprintf(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":%q,"annotations":{%s}},"spec":{"config":%q}}`,
					b.name, resource(b.config), b.config)))
			}
			p.must(t, p.Apply(p.ctx, pod(b.name, b.networks, strings.Contains(b.config, "sriov\""))))
			p.must(t, p.Await(p.ctx, "the refusal of pod "+b.name, func(ctx context.Context) (string, bool, error) {
				out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+b.name, "-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
				for _, w := range b.want {
					if !strings.Contains(out, w) {
						return out, false, err
					}
				}
				// Both the pod's own event and the CNI error in the kubelet's.
				return out, strings.Contains(out, "FailedAddingInterface") && strings.Contains(out, "FailedCreatePodSandBox") ||
					strings.Contains(out, "NoNetworkFound") && strings.Contains(out, "FailedCreatePodSandBox"), err
			}))
		})
	}
	var names []string
	for _, b := range bad {
		names = append(names, b.name)
	}
	p.gone(t, names...)
}

func resource(config string) string {
	if strings.Contains(config, `"sriov"`) {
		return `"k8s.v1.cni.cncf.io/resourceName":"` + stage.Resource + `"`
	}
	return ""
}

func pod(name, networks string, vf bool) string {
	limits := "{}"
	if vf {
		limits = fmt.Sprintf(`{%q:"1"}`, stage.Resource)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"annotations":{"k8s.v1.cni.cncf.io/networks":%q}},
		"spec":{"nodeSelector":{"kubernetes.io/hostname":"node1"},"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":%q,"imagePullPolicy":"Never",
		"command":["sleep","100000"],"resources":{"limits":%s}}]}}`, name, networks, cluster.ToolsImage, limits)
}

func (p *play) daemonKilled(t *testing.T) {
	p.examples(t)
	_, err := p.Script(p.ctx, 1, "pkill -9 -x tendrild")
	p.must(t, err)
	p.must(t, p.Ping(p.ctx, "red", "net1", "10.56.1.12"))
	// The node may call itself ready for a while after the kill: the container
	// is made again in the kubelet's own time.
	p.must(t, p.Await(p.ctx, "the new daemon of node1 to hold 4 attachments", func(ctx context.Context) (string, bool, error) {
		n, err := p.held(ctx, 1, "attachments")
		return n, n == "4", err
	}))
	p.ready(t)
	p.gone(t, "red", "green")
}

// held asks a node's daemon; the empty string is a daemon that does not answer.
func (p *play) held(ctx context.Context, n int, what string) (string, error) {
	out, err := p.Script(ctx, n, fmt.Sprintf(`busybox wget -qO- http://127.0.0.1:9771/metrics | grep '^tendril_held{what="%s"}' | cut -d' ' -f2`, what))
	return strings.TrimSpace(out), err
}

func (p *play) kubeletRestarted(t *testing.T) {
	p.must(t, p.RestartKubelet(p.ctx, 1))
	p.ready(t)
	p.examples(t)
	p.gone(t, "red", "green")
}
