package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// node is a world with a node's configuration of networks, as written, and
// networks on its disk.
type node struct {
	*world
	conf string
	disk map[string]string
	// seen are the attachments that plugins were called for, in order.
	seen   []cni.Attachment
	warned []string
	await  error
}

// add runs an ADD for the pod in namespace and returns the networks it has, as
// network-status tells them.
func (n *node) add(t *testing.T, namespace string) (string, error) {
	t.Helper()
	e := n.build(t)
	r := request("c1")
	r.Args["K8S_POD_NAMESPACE"] = namespace
	_, err := e.Add(context.Background(), r)
	var out []string
	for _, s := range n.status[namespace+"/p"] {
		out = append(out, s.Name+"@"+s.Interface)
	}
	return strings.Join(out, " "), err
}

func (n *node) build(t *testing.T) *cni.Engine {
	t.Helper()
	e := n.engine()
	if n.conf != "" {
		said, err := netconf.ParseNode("test", []byte(n.conf))
		if err != nil {
			t.Fatal(err)
		}
		e.Node = func() netconf.Node { return said }
	}
	e.Find = n.find
	e.Delegate = recorder{delegate{n.world}, n}
	e.Report = warner{n.world, n}
	e.Await = func(context.Context) error { return n.await }
	return e
}

func (n *node) find(name string) (netconf.Network, error) {
	text, ok := n.disk[name]
	if !ok {
		return netconf.Network{}, refusal.New("disk", "name", name, "a network that is there")
	}
	return netconf.ParseNetwork("disk", []byte(text), "")
}

type recorder struct {
	delegate
	node *node
}

func (r recorder) Add(ctx context.Context, run cni.Runner, a cni.Attachment) (json.RawMessage, error) {
	r.node.seen = append(r.node.seen, a)
	return r.delegate.Add(ctx, run, a)
}

type warner struct {
	*world
	node *node
}

func (w warner) Warned(_ cni.PodRef, text string) { w.node.warned = append(w.node.warned, text) }

// someone is a pod of namespace with annotations, on a node with three
// definitions.
func someone(t *testing.T, namespace string, annotations map[string]string) *node {
	w := newWorld(t)
	for ref, config := range map[string]string{
		"blue/own":          `{"type":"ptp"}`,
		"red/theirs":        `{"type":"ptp"}`,
		"default/global":    `{"type":"ptp"}`,
		"kube-system/infra": `{"name":"infra0","type":"ptp"}`,
		"blue/ondisk":       ` `,
	} {
		ns, name, _ := strings.Cut(ref, "/")
		w.nads[ref] = cni.Definition{Namespace: ns, Name: name, Config: config}
	}
	w.pods[namespace+"/p"] = cni.Pod{PodRef: cni.PodRef{Namespace: namespace, Name: "p", UID: "u1"}, Annotations: annotations}
	return &node{world: w, disk: map[string]string{
		"ondisk": `{"name":"ondisk","type":"ptp"}`, "sidecar": `{"name":"sidecar","type":"ptp"}`,
		"/etc/x.conflist": `{"name":"x0","plugins":[{"type":"ptp"}]}`,
	}}
}

const (
	networks       = "k8s.v1.cni.cncf.io/networks"
	defaultNetwork = "v1.multus-cni.io/default-network"
)

func TestNetworksOfAPod(t *testing.T) {
	for name, c := range map[string]struct {
		namespace, conf string
		annotations     map[string]string
		want            string
	}{
		"nothing said":                     {"blue", ``, nil, "cbr0@eth0"},
		"definition without configuration": {"blue", ``, map[string]string{networks: "ondisk"}, "cbr0@eth0 blue/ondisk@net1"},
		"default by definition":            {"blue", `{"clusterNetwork":"infra"}`, nil, "kube-system/infra@eth0"},
		"default by name on disk":          {"blue", `{"clusterNetwork":"sidecar"}`, nil, "sidecar@eth0"},
		"default by path":                  {"blue", `{"clusterNetwork":"/etc/x.conflist"}`, nil, "x0@eth0"},
		"default of the pod":               {"blue", ``, map[string]string{defaultNetwork: "infra", networks: "own"}, "kube-system/infra@eth0 blue/own@net1"},
		"default of the pod, with a name":  {"blue", ``, map[string]string{defaultNetwork: "blue/own@main0"}, "blue/own@main0"},
		"default networks come first":      {"blue", `{"defaultNetworks":["sidecar","infra"]}`, map[string]string{networks: "own@x,own"}, "cbr0@eth0 sidecar@net1 kube-system/infra@net2 blue/own@x blue/own@net4"},
		"not in system namespaces":         {"kube-system", `{"defaultNetworks":["sidecar"]}`, map[string]string{networks: "infra"}, "cbr0@eth0 kube-system/infra@net1"},
		"system namespaces of one's own":   {"kube-system", `{"defaultNetworks":["sidecar"],"systemNamespaces":["blue"]}`, nil, "cbr0@eth0 sidecar@net1"},
		"delegates written out":            {"kube-system", `{"delegates":[{"name":"unread","type":"x"},{"name":"all0","type":"x"}]}`, nil, "cbr0@eth0 all0@net1"},
		"the namespace of the node":        {"blue", `{"clusterNetwork":"own","multusNamespace":"blue"}`, nil, "blue/own@eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := someone(t, c.namespace, c.annotations).with(c.conf).add(t, c.namespace)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("networks are %s, want %s", got, c.want)
			}
		})
	}
}

func (n *node) with(conf string) *node {
	n.conf = conf
	return n
}

// TestInvariant10Isolation tries every way in which a pod can name a network.
func TestInvariant10Isolation(t *testing.T) {
	for name, c := range map[string]struct {
		conf        string
		annotations map[string]string
		refused     string
	}{
		"own":                            {`{"namespaceIsolation":true}`, map[string]string{networks: "own"}, ""},
		"global":                         {`{"namespaceIsolation":true}`, map[string]string{networks: "default/global"}, ""},
		"another's":                      {`{"namespaceIsolation":true}`, map[string]string{networks: "own,red/theirs"}, "red/theirs"},
		"another's, long form":           {`{"namespaceIsolation":true}`, map[string]string{networks: `[{"name":"theirs","namespace":"red"}]`}, "red/theirs"},
		"global no more":                 {`{"namespaceIsolation":true,"globalNamespaces":"infra"}`, map[string]string{networks: "default/global"}, "default/global"},
		"default network":                {`{"namespaceIsolation":true}`, map[string]string{defaultNetwork: "red/theirs"}, "red/theirs"},
		"default network, of the node's": {`{"namespaceIsolation":true}`, map[string]string{defaultNetwork: "infra"}, "kube-system/infra"},
		"default network, made global":   {`{"namespaceIsolation":true,"globalNamespaces":"kube-system"}`, map[string]string{defaultNetwork: "infra"}, ""},
		"what the node gives is free":    {`{"namespaceIsolation":true,"defaultNetworks":["infra"]}`, nil, ""},
		"no isolation":                   {`{}`, map[string]string{networks: "red/theirs", defaultNetwork: "red/theirs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := someone(t, "blue", c.annotations).with(c.conf)
			_, err := n.add(t, "blue")
			if c.refused == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "namespaceIsolation") {
				t.Errorf("error = %v, want a refusal of %s", err, c.refused)
			}
			if n.String() != "" || len(n.seen) > 0 {
				t.Errorf("something was attached: %s %v", n, n.seen)
			}
		})
	}
}

func TestInvariant10HotPlugIsIsolatedToo(t *testing.T) {
	n := someone(t, "blue", map[string]string{networks: "own"}).with(`{"namespaceIsolation":true}`)
	e := n.build(t)
	if _, err := e.Add(context.Background(), request("c1")); err != nil {
		t.Fatal(err)
	}
	before := n.String()
	pod := n.pods["blue/p"]
	pod.Annotations = map[string]string{networks: "own,red/theirs"}
	err := e.Plug(context.Background(), pod, request("c1").Run)
	if err == nil || !strings.Contains(err.Error(), "red/theirs") {
		t.Errorf("error = %v, want a refusal of red/theirs", err)
	}
	if n.String() != before {
		t.Errorf("the refused change left\n%s, before it was\n%s", n, before)
	}
}

func TestInvariant9NetworkRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		conf        string
		annotations map[string]string
		want        []string
	}{
		"two defaults":             {``, map[string]string{defaultNetwork: "own,own"}, []string{"blue/p", defaultNetwork, "exactly one"}},
		"default that is not":      {``, map[string]string{defaultNetwork: "nowhere"}, []string{"blue/p", "kube-system/nowhere"}},
		"default network nowhere":  {`{"defaultNetworks":["nowhere"]}`, nil, []string{"defaultNetworks[0]", "nowhere"}},
		"cluster network nowhere":  {`{"clusterNetwork":"nowhere"}`, nil, []string{"clusterNetwork", "nowhere"}},
		"nothing on disk either":   {``, map[string]string{networks: "blue/hollow"}, []string{"blue/hollow", "spec.config"}},
		"name of a default's":      {`{"defaultNetworks":["sidecar"]}`, map[string]string{networks: "own@net1"}, []string{"element 0", "net1", "sidecar"}},
		"capability of a default":  {``, map[string]string{defaultNetwork: `[{"name":"infra","ips":["192.0.2.1"]}]`}, []string{"ips", "infra", "capability"}},
		"two gateways of a family": {``, map[string]string{networks: `[{"name":"own","default-route":["192.0.2.1"]},{"name":"own","default-route":["2001:db8::1","192.0.2.2"]}]`}, []string{"blue/p", "default-route", "192.0.2.2", "no ECMP", "net1"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := someone(t, "blue", c.annotations).with(c.conf)
			n.nads["blue/hollow"] = cni.Definition{Namespace: "blue", Name: "hollow"}
			_, err := n.add(t, "blue")
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error does not say %q: %v", part, err)
				}
			}
			if n.String() != "" {
				t.Errorf("left over:\n%s", n)
			}
		})
	}
}

// TestDelegatesGetWhatMultusGivesThem compares what a foreign plugin is called
// with to the field guide's table.
func TestDelegatesGetWhatMultusGivesThem(t *testing.T) {
	n := someone(t, "blue", map[string]string{
		networks:       `[{"name":"vf","mac":"02:00:00:00:00:09","ips":["192.0.2.9"],"cni-args":{"k":1}}]`,
		defaultNetwork: `[{"name":"main","mac":"02:00:00:00:00:08"}]`,
	})
	n.nads["blue/vf"] = cni.Definition{Namespace: "blue", Name: "vf", Resource: "vendor.com/pool",
		Config: `{"type":"exotic","capabilities":{"mac":true,"deviceID":true,"CNIDeviceInfoFile":true,"portMappings":true},"ipam":{"type":"static"}}`}
	n.nads["kube-system/main"] = cni.Definition{Namespace: "kube-system", Name: "main", Resource: "vendor.com/pool",
		Config: `{"type":"exotic","capabilities":{"mac":true,"deviceID":true,"portMappings":true,"CNIDeviceInfoFile":true}}`}
	n.devices = map[string][]string{"vendor.com/pool": {"0000:01:10.0", "0000:01:10.2"}}
	e := n.build(t)
	r := request("c1")
	r.Config = []byte(`{"cniVersion":"1.0.0","runtimeConfig":{"portMappings":[{"hostPort":80}]}}`)
	if _, err := e.Add(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range n.seen {
		caps, _ := json.Marshal(a.RuntimeConfig)
		got = append(got, fmt.Sprintf("%s %s %s %s %s", a.IfName, a.CNIArgs, a.Device, caps, a.Config.Plugins[0].Raw))
	}
	const args = "IgnoreUnknown=true;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=p;K8S_POD_UID=u1"
	want := []string{
		`eth0 ` + args + `;MAC=02:00:00:00:00:08 0000:01:10.0 {"mac":"02:00:00:00:00:08","portMappings":[{"hostPort":80}]} ` +
			`{"capabilities":{"mac":true,"deviceID":true,"portMappings":true,"CNIDeviceInfoFile":true},"deviceID":"0000:01:10.0","pciBusID":"0000:01:10.0","type":"exotic"}`,
		`net1 ` + args + `;MAC=02:00:00:00:00:09;IP=192.0.2.9 0000:01:10.2 ` +
			`{"CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/blue-vf-c1_net1","deviceID":"0000:01:10.2","mac":"02:00:00:00:00:09"} ` +
			`{"args":{"cni":{"k":1}},"capabilities":{"mac":true,"deviceID":true,"CNIDeviceInfoFile":true,"portMappings":true},"deviceID":"0000:01:10.2","ipam":{"type":"static"},"pciBusID":"0000:01:10.2","type":"exotic"}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// ips are not declared; static is known to read them from CNI_ARGS.
	if len(n.warned) != 1 || !strings.Contains(n.warned[0], "blue/vf") || !strings.Contains(n.warned[0], "ips") {
		t.Errorf("warnings are %q, want one about ips", n.warned)
	}
}

func TestAddWaitsForTheDefaultNetwork(t *testing.T) {
	n := someone(t, "blue", nil)
	n.await = errors.New("the file is missing")
	if _, err := n.add(t, "blue"); !errors.Is(err, n.await) {
		t.Errorf("error = %v, want the reason", err)
	}
	if len(n.seen) > 0 || !slices.ContainsFunc(n.events, func(e string) bool { return strings.Contains(e, "the file is missing") }) {
		t.Errorf("called %v, events %v", n.seen, n.events)
	}
}
