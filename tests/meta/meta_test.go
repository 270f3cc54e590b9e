//go:build cluster

package meta

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/meta/fault"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestOnTheCluster holds the order: all scenes play on one stage.
func TestOnTheCluster(t *testing.T) {
	s := suite.Open(t, stage.Options{Nodes: 1})
	p := &play{Suite: s, ctx: s.Ctx}
	p.setUp(t)
	p.Scenes(t,
		suite.Scene{Name: "OwnDevicesForTwoContainersTwoPoolsTwoNetworks", Run: p.devices},
		suite.Scene{Name: "ForeignPluginsTellWhatTheyGot", Run: p.foreign},
		suite.Scene{Name: "DefinitionsThatChangeBetweenAddAndDel", Run: p.definitions},
		suite.Scene{Name: "DefaultRoute", Run: p.defaultRoute},
		suite.Scene{Name: "Invariant10NamespaceIsolation", Run: p.isolation},
		suite.Scene{Name: "Invariant8OneWriteAndNoReadPerAdd", Run: p.calls},
		suite.Scene{Name: "Invariant1APIServerWithFaults", Run: p.faults},
		suite.Scene{Name: "Invariant1APIServerAway", Run: p.away},
	)
}

// play is one stage with a proxy between its daemon and the API server.
type play struct {
	*suite.Suite
	ctx    context.Context
	proxy  *fault.Proxy
	before []string
}

func (p *play) must(t *testing.T, err error) { t.Helper(); p.Must(t, err) }

func (p *play) kubectl(t *testing.T, args ...string) string { t.Helper(); return p.Ask(t, args...) }

const setUp = `apiVersion: v1
kind: ConfigMap
metadata: {name: tendril-apiserver, namespace: tendril-system}
data: {KUBERNETES_SERVICE_HOST: "10.77.0.1", KUBERNETES_SERVICE_PORT: "%d"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tendril-pools, namespace: tendril-system}
data:
  config.json: |
    {"resourceList": [
      {"resourcePrefix": "tendril.dev", "resourceName": "sriov0", "selectors": {"pfNames": ["sriov0"]}},
      {"resourcePrefix": "tendril.dev", "resourceName": "sriov1", "selectors": {"pfNames": ["sriov1"]}}]}
  networks.json: |
    {"cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus", "logLevel": "verbose",
     "namespaceIsolation": true, "globalNamespaces": "default,shared"}
`

// setUp puts the proxy between, and gives the node a second pool, a configuration
// of Multus and a foreign plugin.
func (p *play) setUp(t *testing.T) {
	cert, key := p.API().ServingCert()
	var err error
	p.proxy, err = fault.Start(fault.Options{Address: "10.77.0.1:0", Cert: cert, Key: key, Server: p.API().URL()})
	p.must(t, err)
	t.Cleanup(func() { _ = p.proxy.Close() })
	plugin, err := os.ReadFile("testdata/noting")
	p.must(t, err)
	_, err = p.Script(p.ctx, 1, "cat > /opt/cni/bin/noting <<'END'\n"+string(plugin)+"END\nchmod +x /opt/cni/bin/noting")
	p.must(t, err)
	p.must(t, p.Apply(p.ctx, fmt.Sprintf(setUp, p.proxy.Port())))
	p.kubectl(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=json", "-p",
		`[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--networks-config=/etc/tendril/networks.json"}]`)
	p.must(t, p.Await(p.ctx, "the daemon to be ready behind the proxy", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "nodes", "-o", `jsonpath={.items[0].status.allocatable.tendril\.dev/sriov1} {.items[0].status.allocatable.tendril\.dev/sriov0}`)
		if out != "7 7" {
			return out, false, err
		}
		out, err = p.Kubectl(ctx, "-n", "tendril-system", "get", "daemonset", "tendrild", "-o", "jsonpath={.status.updatedNumberScheduled} {.status.numberReady}")
		return out, out == "1 1", err
	}))
	p.before, err = p.Worlds(p.ctx)
	p.must(t, err)
}

// define makes a definition in a namespace.
func (p *play) define(t *testing.T, namespace, name, resource, config string) {
	t.Helper()
	annotations := "{}"
	if resource != "" {
		annotations = fmt.Sprintf(`{"k8s.v1.cni.cncf.io/resourceName":%q}`, resource)
	}
	p.must(t, p.Apply(p.ctx, fmt.Sprintf(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition",
		"metadata":{"name":%q,"namespace":%q,"annotations":%s},"spec":{"config":%q}}`, name, namespace, annotations, config)))
}

const networks, defaultNetwork = "k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network"

// pod starts a pod with an annotation, and a container for each set of limits.
func (p *play) pod(t *testing.T, name, annotation, value string, limits ...string) {
	t.Helper()
	if len(limits) == 0 {
		limits = []string{"{}"}
	}
	var containers []string
	for i, l := range limits {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q,"imagePullPolicy":"Never","command":["sleep","100000"],"resources":{"limits":%s}}`, i, cluster.ToolsImage, l))
	}
	p.must(t, p.Apply(p.ctx, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"annotations":{%q:%q}},
		"spec":{"terminationGracePeriodSeconds":1,"containers":[%s]}}`, name, annotation, value, strings.Join(containers, ","))))
}

// gone deletes pods and wants the node as it was before any.
func (p *play) gone(t *testing.T, pods ...string) {
	t.Helper()
	p.must(t, p.PodGone(p.ctx, pods...))
	p.must(t, p.AwaitWorlds(p.ctx, p.before))
}

// has waits until network-status says that the pod has these interfaces.
func (p *play) has(t *testing.T, pod, want string) []stage.Interface {
	t.Helper()
	var interfaces []stage.Interface
	p.must(t, p.Await(p.ctx, "network-status of "+pod+" to be "+want, func(ctx context.Context) (seen string, ok bool, err error) {
		status, err := p.status(ctx, pod)
		if err != nil {
			return "", false, err
		}
		interfaces = status
		var names []string
		for _, i := range interfaces {
			names = append(names, i.Network+"@"+i.Name)
		}
		seen = strings.Join(names, " ")
		return seen, seen == want, nil
	}))
	return interfaces
}

// status reads network-status alone, since definitions come and go here.
func (p *play) status(ctx context.Context, pod string) ([]stage.Interface, error) {
	raw, err := p.Kubectl(ctx, "get", "pod", pod, "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Name, Interface string
		DeviceInfo      struct {
			PCI struct {
				Address string `json:"pci-address"`
			}
		} `json:"device-info"`
	}
	if err := json.Unmarshal([]byte(raw), &entries); err != nil {
		return nil, fmt.Errorf("read network-status %q: %w", raw, err)
	}
	var out []stage.Interface
	for _, e := range entries {
		out = append(out, stage.Interface{Pod: pod, Network: e.Name, Name: e.Interface, Device: e.DeviceInfo.PCI.Address})
	}
	return out, nil
}

func (p *play) devices(t *testing.T) {
	p.define(t, "default", "left", "tendril.dev/sriov0", `{"cniVersion":"1.0.0","type":"sriov"}`)
	p.define(t, "default", "right", "tendril.dev/sriov1", `{"cniVersion":"1.0.0","type":"sriov"}`)
	// The order of networks is not that of containers.
	p.pod(t, "two", networks, "right,left", `{"tendril.dev/sriov0":"1"}`, `{"tendril.dev/sriov1":"1"}`)
	p.must(t, p.PodReady(p.ctx, "two"))
	got := p.has(t, "two", "lab@eth0 default/right@net1 default/left@net2")
	for container, c := range map[string]struct{ variable, device string }{
		"c0": {"PCIDEVICE_TENDRIL_DEV_SRIOV0", got[2].Device}, "c1": {"PCIDEVICE_TENDRIL_DEV_SRIOV1", got[1].Device},
	} {
		env := p.kubectl(t, "exec", "two", "-c", container, "--", "env")
		if c.device == "" || !strings.Contains(env, c.variable+"="+c.device+"\n") {
			t.Errorf("container %s was told\n%s, its network has device %q", container, env, c.device)
		}
	}
	p.gone(t, "two")
}

// note is one call of the foreign plugin.
type note struct {
	Command, IfName, Args string
	Config                map[string]any
}

// notes returns, and forgets, the calls of the foreign plugin.
func (p *play) notes(t *testing.T) []note {
	t.Helper()
	out, err := p.Script(p.ctx, 1, "cat /run/noting.log; rm -f /run/noting.log")
	p.must(t, err)
	var all []note
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		parts := strings.SplitN(line, "|", 4)
		if len(parts) != 4 {
			continue
		}
		n := note{Command: parts[0], IfName: parts[1], Args: parts[2]}
		if err := json.Unmarshal([]byte(parts[3]), &n.Config); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, n)
	}
	return all
}

const noting = `{"cniVersion":"1.0.0","type":"noting","capabilities":{"mac":true,"ips":true},"vendor":{"kept":9007199254740993}}`

func (p *play) foreign(t *testing.T) {
	p.define(t, "default", "vendor", "", noting)
	p.pod(t, "told", networks, `[{"name":"vendor","mac":"02:00:00:00:56:21","ips":["192.0.2.7/24"],"cni-args":{"color":"red"},"interface":"v0"}]`)
	p.must(t, p.PodReady(p.ctx, "told"))
	p.has(t, "told", "lab@eth0 default/vendor@v0")
	p.gone(t, "told")
	calls := p.notes(t)
	var order []string
	for _, c := range calls {
		order = append(order, c.Command+" "+c.IfName)
	}
	// The kubelet may repeat a DEL until it was answered.
	if order = slices.Compact(order); !slices.Equal(order, []string{"ADD v0", "DEL v0"}) {
		t.Fatalf("the plugin was called %v, want ADD and DEL", order)
	}
	add, del := calls[0], calls[len(calls)-1]
	for _, part := range []string{"K8S_POD_NAMESPACE=default", "K8S_POD_NAME=told", "K8S_POD_UID=", "K8S_POD_INFRA_CONTAINER_ID="} {
		if !strings.Contains(add.Args, part) {
			t.Errorf("CNI_ARGS %q has no %s", add.Args, part)
		}
	}
	if !strings.HasSuffix(add.Args, ";MAC=02:00:00:00:56:21;IP=192.0.2.7/24") {
		t.Errorf("CNI_ARGS is %q", add.Args)
	}
	want := map[string]any{
		"cniVersion": "1.0.0", "name": "vendor", "type": "noting", "vendor": map[string]any{"kept": 9007199254740993.0},
		"runtimeConfig": map[string]any{"mac": "02:00:00:00:56:21", "ips": []any{"192.0.2.7/24"}},
		"args":          map[string]any{"cni": map[string]any{"color": "red"}},
	}
	if del.Config["prevResult"] == nil {
		t.Error("DEL has no prevResult")
	}
	delete(del.Config, "prevResult")
	for _, c := range []note{add, del} {
		delete(c.Config, "capabilities")
		if d := cmp.Diff(want, c.Config); d != "" {
			t.Errorf("%s: %s", c.Command, d)
		}
	}
}

// definitions changes one definition and deletes another under a running pod: DEL
// goes by what ADD had.
func (p *play) definitions(t *testing.T) {
	p.define(t, "default", "edited", "", noting)
	p.define(t, "default", "deleted", "", `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.98.0.0/24"}}`)
	p.pod(t, "changed", networks, "edited,deleted")
	p.must(t, p.PodReady(p.ctx, "changed"))
	p.has(t, "changed", "lab@eth0 default/edited@net1 default/deleted@net2")
	p.define(t, "default", "edited", "", `{"cniVersion":"1.0.0","type":"does-not-exist"}`)
	p.kubectl(t, "delete", "net-attach-def", "deleted")
	p.gone(t, "changed")
	for _, c := range p.notes(t) {
		if c.Config["type"] != "noting" || c.Config["vendor"] == nil {
			t.Errorf("%s had %v, want what ADD had", c.Command, c.Config)
		}
	}
}

func (p *play) defaultRoute(t *testing.T) {
	p.define(t, "default", "uplink", "", `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","ranges":[[{"subnet":"10.97.0.0/24"}],[{"subnet":"fd00:97::/64"}]]}}`)
	p.pod(t, "routed", networks, `[{"name":"uplink","default-route":["10.97.0.9","fd00:97::9"]}]`)
	p.must(t, p.PodReady(p.ctx, "routed"))
	p.has(t, "routed", "lab@eth0 default/uplink@net1")
	for family, want := range map[string]string{"-4": "default via 10.97.0.9 dev net1", "-6": "default via fd00:97::9 dev net1"} {
		out := p.kubectl(t, "exec", "routed", "--", "ip", family, "route", "show", "default")
		if strings.Count(out, "default") != 1 || !strings.HasPrefix(out, want) {
			t.Errorf("default routes are %q, want %q alone", out, want)
		}
	}
	var entries []struct {
		Name    string
		Gateway []string
		Default bool
	}
	status := p.kubectl(t, "get", "pod", "routed", "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
	p.must(t, json.Unmarshal([]byte(status), &entries))
	if len(entries) != 2 || entries[0].Gateway != nil || !entries[0].Default || !slices.Equal(entries[1].Gateway, []string{"10.97.0.9", "fd00:97::9"}) {
		t.Errorf("network-status says %+v", entries)
	}
	p.gone(t, "routed")
}

// refused wants events of the pod, the kubelet's among them, with all words.
func (p *play) refused(t *testing.T, pod string, words ...string) {
	t.Helper()
	p.must(t, p.Await(p.ctx, "the refusal of pod "+pod, func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+pod, "-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		for _, w := range append(words, "FailedCreatePodSandBox") {
			if !strings.Contains(out, w) {
				return out, false, err
			}
		}
		return out, true, err
	}))
}

func (p *play) isolation(t *testing.T) {
	for _, ns := range []string{"shared", "private"} {
		p.must(t, p.Apply(p.ctx, fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, ns)))
		p.define(t, ns, "net", "", noting)
	}
	p.pod(t, "shares", networks, "shared/net")
	p.must(t, p.PodReady(p.ctx, "shares"))
	p.pod(t, "intrudes", networks, "private/net")
	p.refused(t, "intrudes", "private/net", networks, "namespaceIsolation")
	p.pod(t, "replaces", defaultNetwork, "private/net")
	p.refused(t, "replaces", "private/net", defaultNetwork, "namespaceIsolation")
	p.gone(t, "shares", "intrudes", "replaces")
	for _, c := range p.notes(t) {
		if !strings.Contains(c.Args, "K8S_POD_NAME=shares;") {
			t.Errorf("the plugin of a refused network was called: %+v", c)
		}
	}
}

// load is eight macvlans: the annotation, and network-status with them.
func (p *play) load(t *testing.T) (annotation, status string) {
	t.Helper()
	p.define(t, "default", "many", "", `{"cniVersion":"1.0.0","type":"macvlan","master":"sriov1","ipam":{"type":"host-local","subnet":"10.96.4.0/24"}}`)
	status = "lab@eth0"
	for i := range 8 {
		status += fmt.Sprintf(" default/many@net%d", i+1)
	}
	return strings.TrimSuffix(strings.Repeat("many,", 8), ","), status
}

func (p *play) calls(t *testing.T) {
	annotation, status := p.load(t)
	p.quiet()
	p.pod(t, "counted", networks, annotation)
	p.must(t, p.PodReady(p.ctx, "counted"))
	p.has(t, "counted", status)
	calls := p.quiet()
	patches, reads := fault.Count(calls, "PATCH", "/pods/"), fault.Count(calls, "GET", "/pods/")+fault.Count(calls, "GET", "/network-attachment-definitions/")
	events := fault.Count(calls, "POST", "/events")
	t.Logf("ADD with 8 networks: %d calls, of them %d PATCH of pods, %d reads, %d events", len(calls), patches, reads, events)
	if patches != 1 || reads != 0 || events != 1 {
		t.Errorf("ADD made %d PATCHes, %d reads and %d events, want 1, 0 and 1: %v", patches, reads, events, calls)
	}
	p.gone(t, "counted")
	calls = p.quiet()
	t.Logf("DEL with 8 networks: %d calls", len(calls))
	if n := fault.Count(calls, "PATCH", "/pods/") + fault.Count(calls, "GET", "/pods/"); n > 0 {
		t.Errorf("DEL asked for pods: %v", calls)
	}
}

// quiet returns the calls up to a second in which there was none.
func (p *play) quiet() []fault.Call {
	calls := p.proxy.Calls()
	for none := 0; none < 4; none++ {
		select {
		case <-p.ctx.Done():
			return calls
		case <-time.After(250 * time.Millisecond):
		}
		if more := p.proxy.Calls(); len(more) > 0 {
			calls, none = append(calls, more...), -1
		}
	}
	return calls
}

// faults starts a pod under each of them. They are deleted together: DEL asks the
// API server nothing.
func (p *play) faults(t *testing.T) {
	annotation, status := p.load(t)
	var pods []string
	for _, f := range []struct {
		name  string
		fault fault.Fault
	}{
		{"slow", fault.Fault{Delay: 700 * time.Millisecond}},
		{"conflict", fault.Fault{Code: 409, Writes: true, Times: 3}},
		{"too-many-requests", fault.Fault{Code: 429, Writes: true, Times: 3}},
		{"internal-error", fault.Fault{Code: 500, Writes: true, Times: 3}},
		{"commit-without-answer", fault.Fault{Drop: true, Writes: true, Times: 3}},
	} {
		pods = append(pods, f.name)
		t.Run(f.name, func(t *testing.T) {
			p.proxy.Set(f.fault)
			defer p.proxy.Set(fault.Fault{})
			p.pod(t, f.name, networks, annotation)
			p.must(t, p.PodReady(p.ctx, f.name))
			p.has(t, f.name, status)
		})
	}
	p.gone(t, pods...)
}

// away takes the API server from the daemon alone. Sandboxes of pods that are
// known start and end; pods that are not wait, and none runs single-homed.
func (p *play) away(t *testing.T) {
	annotation, status := p.load(t)
	p.pod(t, "known", networks, annotation)
	p.must(t, p.PodReady(p.ctx, "known"))
	p.has(t, "known", status)
	ip := p.kubectl(t, "get", "pod", "known", "-o", "jsonpath={.status.podIP}")
	p.proxy.Set(fault.Fault{Away: true})
	defer p.proxy.Set(fault.Fault{})
	// The kubelet makes a new sandbox for the pod: an ADD without an API server.
	_, err := p.Script(p.ctx, 1, "pkill -n -x pause")
	p.must(t, err)
	p.pod(t, "unknown", networks, annotation)
	p.must(t, p.Await(p.ctx, "the new sandbox of the pod", func(ctx context.Context) (string, bool, error) {
		now, err := p.Kubectl(ctx, "get", "pod", "known", "-o", `jsonpath={.status.podIP} {.status.conditions[?(@.type=="Ready")].status}`)
		return now, err == nil && now != ip+" True" && strings.HasSuffix(now, " True"), err
	}))
	if out := p.kubectl(t, "exec", "known", "--", "ip", "-o", "link"); !strings.Contains(out, "net8") {
		t.Errorf("the new sandbox has\n%s, want net1 to net8", out)
	}
	p.refused(t, "unknown", "wait for pod default/unknown")
	if phase := p.kubectl(t, "get", "pod", "unknown", "-o", "jsonpath={.status.phase}{.status.podIP}"); phase != "Pending" {
		t.Errorf("the pod that the daemon cannot know is %q, want Pending and no address", phase)
	}
	p.proxy.Set(fault.Fault{})
	p.must(t, p.PodReady(p.ctx, "unknown"))
	p.has(t, "unknown", status)
	p.has(t, "known", status)
	p.gone(t, "known", "unknown")
}
