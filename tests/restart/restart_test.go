//go:build cluster

package restart

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestRestartsOnTheCluster plays all scenes on one stage; the power cut is last.
func TestRestartsOnTheCluster(t *testing.T) {
	s := suite.Open(t, stage.Options{Nodes: 1})
	p := &play{Suite: s, ctx: s.Ctx, before: s.Before}
	for name, config := range networks {
		p.must(t, p.Apply(p.ctx, definition(name, config)))
	}
	p.Scenes(t,
		suite.Scene{Name: "Invariant1ConfigurationIsGuarded", Run: p.guard},
		suite.Scene{Name: "NetworksOfARunningPodAreChanged", Run: p.hotplug},
		suite.Scene{Name: "Invariant2PodsDeletedWhileTheDaemonIsAway", Run: p.spooled},
		suite.Scene{Name: "Invariant1DaemonRestartedUnderAStormOfPods", Run: p.storm},
		suite.Scene{Name: "Invariant3PowerCut", Run: p.powerCut},
	)
}

var networks = map[string]string{
	"fast":    `{"cniVersion":"1.0.0","type":"sriov","vlan":42,"ipam":{"type":"host-local","subnet":"10.61.0.0/24"}}`,
	"storage": `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.62.0.0/22"}}`,
	"signal":  `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.66.0.0/22"}}`,
}

func definition(name, config string) string {
	resource := "{}"
	if name == "fast" {
		resource = fmt.Sprintf(`{"k8s.v1.cni.cncf.io/resourceName":%q}`, stage.Resource)
	}
	return fmt.Sprintf(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":%q,"annotations":%s},"spec":{"config":%q}}`, name, resource, config)
}

type play struct {
	*suite.Suite
	ctx    context.Context
	before []string
}

func (p *play) must(t *testing.T, err error) { t.Helper(); p.Must(t, err) }

func (p *play) kubectl(t *testing.T, args ...string) string { t.Helper(); return p.Ask(t, args...) }

func pod(name, networks string, vf bool) string {
	limits := "{}"
	if vf {
		limits = fmt.Sprintf(`{%q:"1"}`, stage.Resource)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":"restart"},"annotations":{"k8s.v1.cni.cncf.io/networks":%q}},
		"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":%q,"imagePullPolicy":"Never","command":["sleep","100000"],"resources":{"limits":%s}}]}}`,
		name, networks, cluster.ToolsImage, limits)
}

// has waits until network-status, and the kernel in the pod, have these
// interfaces, in this order.
func (p *play) has(t *testing.T, name, want string) {
	t.Helper()
	p.must(t, p.Await(p.ctx, "pod "+name+" to have "+want, func(ctx context.Context) (string, bool, error) {
		raw, err := p.Kubectl(ctx, "get", "pod", name, "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
		if err != nil {
			return "", false, err
		}
		var status []struct{ Name, Interface string }
		if raw != "" {
			if err := json.Unmarshal([]byte(raw), &status); err != nil {
				return "", false, err
			}
		}
		var names []string
		for _, s := range status {
			names = append(names, s.Interface)
		}
		got := strings.Join(names, " ")
		if got != want {
			return got, false, nil
		}
		links, err := p.Exec(ctx, name, "ls", "/sys/class/net")
		if err != nil {
			return "", false, err
		}
		inside := strings.Fields(links)
		return got + "; in the pod " + strings.Join(inside, " "), len(inside) == len(names)+1, nil // and lo
	}))
}

func (p *play) events(t *testing.T, reason, want string) {
	t.Helper()
	p.must(t, p.Await(p.ctx, "an event "+reason, func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "reason="+reason, "-o", `jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}`)
		return out, strings.Contains(out, want), err
	}))
}

func (p *play) gone(t *testing.T, pods ...string) { t.Helper(); p.Gone(t, pods...) }

func (p *play) guard(t *testing.T) {
	_, err := p.Script(p.ctx, 1, "cd /etc/cni/net.d && mv 00-tendril.conflist 00-tendril.conflist.cilium_bak")
	p.must(t, err)
	p.must(t, p.Await(p.ctx, "the configuration to be back", func(ctx context.Context) (string, bool, error) {
		out, err := p.Script(ctx, 1, "cat /etc/cni/net.d/00-tendril.conflist 2>/dev/null || true")
		return out, strings.Contains(out, "tendril.sock"), err
	}))
	p.events(t, "CNIConfigurationRestored", "node1: 00-tendril.conflist in /etc/cni/net.d was renamed or deleted")
	_, err = p.Script(p.ctx, 1, "rm /etc/cni/net.d/00-tendril.conflist.cilium_bak")
	p.must(t, err)
}

func (p *play) annotate(t *testing.T, name, networks string) {
	t.Helper()
	p.kubectl(t, "annotate", "--overwrite", "pod", name, "k8s.v1.cni.cncf.io/networks="+networks)
}

// hotplug changes the networks of a pod that runs, its VF among them.
func (p *play) hotplug(t *testing.T) {
	p.must(t, p.Apply(p.ctx, pod("hot", "storage@store0", true)))
	p.must(t, p.PodReady(p.ctx, "hot"))
	p.has(t, "hot", "eth0 store0")
	p.annotate(t, "hot", "fast,storage@store0,signal@sig0")
	p.has(t, "hot", "eth0 net1 store0 sig0")
	p.events(t, "AddedInterface", "hot: Add net1")
	interfaces, err := p.Interfaces(p.ctx, "hot")
	p.must(t, err)
	if vf := interfaces[1]; vf.VLAN != 42 || vf.Device == "" {
		t.Errorf("the VF is %+v, want VLAN 42", vf)
	}
	p.annotate(t, "hot", "storage@store0")
	p.has(t, "hot", "eth0 store0")
	p.events(t, "RemovedInterface", "hot: Remove net1 from default/fast")
	p.annotate(t, "hot", "storage@store0,nowhere")
	p.events(t, "NoNetworkFound", "default/nowhere")
	p.annotate(t, "hot", "signal,fast@vf0,storage@store0")
	p.has(t, "hot", "eth0 net1 vf0 store0")
	p.gone(t, "hot")
}

// away takes the daemon off the node.
func (p *play) away(t *testing.T) {
	t.Helper()
	p.kubectl(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}`)
	p.must(t, p.Await(p.ctx, "the daemon to be off the node", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-o", "name")
		return out, err == nil && strings.TrimSpace(out) == "", err
	}))
}

func (p *play) back(t *testing.T) {
	t.Helper()
	p.kubectl(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector"}]`)
	p.ready(t)
}

func (p *play) ready(t *testing.T) { t.Helper(); p.Ready(t) }

// spooled deletes pods while no daemon runs: they go, and what they had is given
// back when the daemon is there again. A pod that stays and loses an interface
// meanwhile has it again then.
func (p *play) spooled(t *testing.T) {
	p.must(t, p.Apply(p.ctx, pod("one", "fast,storage", true)))
	p.must(t, p.Apply(p.ctx, pod("two", "storage,signal", false)))
	p.must(t, p.Apply(p.ctx, pod("keeper", "storage@lost0", false)))
	p.must(t, p.PodReady(p.ctx, "one", "two", "keeper"))
	p.away(t)
	p.must(t, p.PodGone(p.ctx, "one", "two"))
	// The kubelet may have repeated those of earlier pods.
	waiting := p.Shell(t, 1, "grep -ho 'K8S_POD_NAME=[a-z]*' /var/lib/tendril/spool/*.del")
	for _, name := range []string{"one", "two"} {
		if !strings.Contains(waiting, "="+name) {
			t.Errorf("the DEL of pod %s is not spooled: %s", name, waiting)
		}
	}
	if from := p.Shell(t, 1, "for n in $(ls /run/netns); do ip -n $n link del lost0 2>/dev/null && echo $n || true; done"); len(strings.Fields(from)) != 1 {
		t.Errorf("the interface was taken from the namespaces %q, want one", from)
	}
	p.back(t)
	p.has(t, "keeper", "eth0 lost0")
	p.events(t, "InterfaceMissing", "keeper: interface lost0 of network default/storage was lost; it is made anew")
	p.gone(t, "keeper")
	if n := p.Shell(t, 1, "ls /var/lib/tendril/spool | wc -l"); n != "0" {
		t.Errorf("%s DELs are still spooled", n)
	}
}

// stormPods is how many pods start at once: as many as an emulated machine takes
// in a minute or two. Package crash has a storm of 250.
const stormPods = 6

// storm kills the daemon twice while pods start: each of them runs with
// all its networks in the end, and none ever without.
func (p *play) storm(t *testing.T) {
	var names []string
	var list strings.Builder
	for i := range stormPods {
		names = append(names, fmt.Sprintf("storm-%d", i))
		list.WriteString(pod(names[i], "storage,signal", false) + "\n---\n")
	}
	p.must(t, p.Apply(p.ctx, strings.TrimSuffix(list.String(), "---\n")))
	for _, attached := range []int{1, 3} {
		p.kill(t, attached)
	}
	p.must(t, p.PodReady(p.ctx, names...))
	for _, name := range names {
		p.has(t, name, "eth0 net1 net2")
	}
	restarts := p.kubectl(t, "get", "pods", "-l", "app=restart", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.Trim(restarts, "0 ") != "" {
		t.Errorf("containers were restarted: %s", restarts)
	}
	p.gone(t, names...)
}

// kill kills a daemon that runs, as soon as that many pods of the storm have their
// networks: it is in the middle of the others'.
func (p *play) kill(t *testing.T, attached int) {
	t.Helper()
	p.must(t, p.Await(p.ctx, fmt.Sprintf("a daemon to kill, and %d pods with networks", attached), func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "pods", "-l", "app=restart", "-o", `jsonpath={range .items[*]}{.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}{end}`)
		n := strings.Count(out, `"eth0"`)
		if err != nil || n < attached {
			return fmt.Sprintf("%d pods have networks", n), false, err
		}
		out, err = p.Script(ctx, 1, "pkill -9 -x tendrild && echo killed || true")
		t.Logf("%d of %d pods had their networks: %s", n, stormPods, strings.TrimSpace(out))
		return out, strings.Contains(out, "killed"), err
	}))
}

// powerCut resets the machine under two pods: after the boot the one without a
// device runs again with its networks. The one with a VF is the kubelet's to fail
// or to run: it admits pods again before any device plugin has registered, and
// refuses those whose devices are not there yet (UnexpectedAdmissionError). Either
// way, deleting both leaves nothing, and the VF is free for the next pod.
func (p *play) powerCut(t *testing.T) {
	p.must(t, p.Apply(p.ctx, pod("survivor", "storage,signal", false)))
	p.must(t, p.Apply(p.ctx, pod("holder", "fast", true)))
	p.must(t, p.PodReady(p.ctx, "survivor", "holder"))
	p.has(t, "survivor", "eth0 net1 net2")
	// The reference host-local plugin does not sync its files, and releases by what
	// is in them: its own addresses are not what is tested here.
	_, err := p.Script(p.ctx, 1, "sync -f /var/lib/cni")
	p.must(t, err)
	p.must(t, p.Node(1).Reset(p.ctx))
	p.must(t, p.StartNode(p.ctx, 1))
	p.ready(t)
	// The kubelet makes a new sandbox, and the pod its networks with it.
	p.must(t, p.Await(p.ctx, "the pod to run again", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "pod", "survivor", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}")
		return out, strings.HasPrefix(out, "Running true ") && !strings.HasSuffix(out, " 0"), err
	}))
	p.has(t, "survivor", "eth0 net1 net2")
	p.goneAfterBoot(t, "survivor", "holder")
	p.must(t, p.Apply(p.ctx, pod("next", "fast", true)))
	p.must(t, p.PodReady(p.ctx, "next"))
	p.has(t, "next", "eth0 net1")
	p.goneAfterBoot(t, "next")
}

// newAtBoot is what a boot gives anew: the emulated VFs' own addresses, and the
// order in which their devices are named.
var newAtBoot = regexp.MustCompile(`[0-9a-f]{2}(:[0-9a-f]{2}){5}|\beth\d+\b|bridge addresses: \d+`)

// heldScript prints the default network's addresses whose file has content. The
// reference host-local neither syncs its files nor removes those that a power cut
// has emptied: these are not ours to give back. One that says whose it is has had
// no DEL.
const heldScript = `find /var/lib/cni/networks/lab -name '10.*' -size +0c -exec grep -H . {} +`

// goneAfterBoot is gone, but for what the boot gave anew.
func (p *play) goneAfterBoot(t *testing.T, pods ...string) {
	t.Helper()
	p.must(t, p.PodGone(p.ctx, pods...))
	want := newAtBoot.ReplaceAllString(p.before[0], "_")
	p.must(t, p.Await(p.ctx, "the node to be as before the power cut", func(ctx context.Context) (string, bool, error) {
		got, err := p.World(ctx, 1)
		if err != nil {
			return "", false, err
		}
		held, err := p.Script(ctx, 1, heldScript+" || true")
		got = newAtBoot.ReplaceAllString(got, "_") + held
		return fmt.Sprintf("%s\nand was\n%s", got, want), got == want, err
	}))
}
