package netconf_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// The configurations of Multus' own manifests and documents, as they are.
var multusFiles = map[string]struct {
	text string
	want netconf.Node
}{
	"daemon-config.json of the thick manifest": {
		`{"chrootDir":"/hostroot","cniVersion":"0.3.1","logLevel":"verbose","logToStderr":true,"cniConfigDir":"/host/etc/cni/net.d",
		  "multusAutoconfigDir":"/host/etc/cni/net.d","multusConfigFile":"auto","socketDir":"/host/run/multus/"}`,
		netconf.Node{DiscoverDir: "/etc/cni/net.d", Idle: []string{"cniVersion", "cniConfigDir", "logLevel", "logToStderr", "socketDir"}},
	},
	"00-multus.conf of the thin plugin": {
		`{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","capabilities":{"portMappings":true},
		  "kubeconfig":"/etc/cni/net.d/multus.d/multus.kubeconfig","clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist",
		  "defaultNetworks":["sidecar","/hostroot/x"],"systemNamespaces":[],"multusNamespace":"infra","namespaceIsolation":true,"globalNamespaces":"default, shared",
		  "confDir":"/etc/cni/multus/net.d","binDir":"/opt/cni/bin","readinessindicatorfile":"/host/run/ready","retryDeleteOnError":true,
		  "delegates":[{"type":"bridge","name":"unused"}]}`,
		netconf.Node{
			ClusterNetwork: "/etc/cni/net.d/10-flannel.conflist", DefaultNetworks: []string{"sidecar", "/hostroot/x"}, Home: "infra", Isolation: true, Global: []string{"default", "shared"}, ConfDir: "/etc/cni/multus/net.d", BinDir: "/opt/cni/bin", ReadinessFile: "/run/ready",
			Idle: []string{"cniVersion", "name", "type", "capabilities", "kubeconfig", "retryDeleteOnError"},
		},
	},
	"delegates written out, the first without a name": {
		`{"name":"node-net","type":"multus","delegates":[{"type":"weave-net"},{"type":"macvlan","name":"always"}],"globalNamespaces":""}`,
		netconf.Node{
			Delegates: []netconf.Network{
				{Name: "node-net", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "weave-net", Raw: []byte(`{"type":"weave-net"}`)}}},
				{Name: "always", CNIVersion: "0.1.0", Plugins: []netconf.Plugin{{Type: "macvlan", Raw: []byte(`{"type":"macvlan","name":"always"}`)}}},
			},
			Global: nil, Idle: []string{"name", "type"},
		},
	},
	"nothing": {`{}`, netconf.Node{}},
}

func TestParseNodeTakesMultusFilesAsTheyAre(t *testing.T) {
	for name, c := range multusFiles {
		t.Run(name, func(t *testing.T) {
			want := c.want
			if !strings.Contains(c.text, "systemNamespaces") {
				want.SystemNamespaces = []string{"kube-system"}
			}
			if want.Global == nil && !strings.Contains(c.text, "globalNamespaces") {
				want.Global = []string{"default"}
			}
			got, err := netconf.ParseNode("daemon-config.json", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestInvariant9NodeRefusals(t *testing.T) {
	for text, want := range map[string][]string{
		`{"clusterNetworks":"x"}`:                         {"conf.json", "clusternetworks", `"x"`, "no such key", "clusterNetwork"},
		`{"namespaceIsolation":"yes"}`:                    {"namespaceIsolation", `"yes"`, "true, false"},
		`{"clusterNetwork":"relative/path"}`:              {"clusterNetwork", "relative/path", "absolute path"},
		`{"defaultNetworks":["ok","a b"]}`:                {"defaultNetworks[1]", "a b", "letters"},
		`{"globalNamespaces":"a,B"}`:                      {"globalNamespaces", `"B"`, "label"},
		`{"delegates":[{"type":"x","name":"y"},{"n":1}]}`: {"delegates[1]", "allowed"},
		`{"auxiliaryCNIChainName":"vendor"}`:              {"auxiliaryCNIChainName", "vendor", "defaultNetworks"},
		`{"multusConfigFile":"/x.conf"}`:                  {"multusConfigFile", "/x.conf", "auto"},
		`{"readinessindicatorfile":"x"}`:                  {"readinessindicatorfile", `"x"`, "absolute"},
		`{"multusMasterCNI":"../x"}`:                      {"multusMasterCNI", "../x", "name of a file"},
		`{"confDir":`:                                     {"conf.json", "line 1", "JSON"},
		`[]`:                                              {"conf.json", "JSON object"},
	} {
		_, err := netconf.ParseNode("conf.json", []byte(text))
		if err == nil {
			t.Errorf("%s: accepted", text)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error does not say %q: %v", text, part, err)
			}
		}
	}
}

func TestInvariant10Permit(t *testing.T) {
	isolated := netconf.Node{Isolation: true, Global: []string{"default", "shared"}}
	for _, c := range []struct {
		node     netconf.Node
		from, to string
		permit   bool
	}{
		{netconf.Node{}, "blue", "red", true},
		{isolated, "blue", "blue", true},
		{isolated, "blue", "shared", true},
		{isolated, "blue", "red", false},
		{isolated, "blue", "kube-system", false},
		{netconf.Node{Isolation: true}, "blue", "default", false},
	} {
		err := c.node.Permit(c.from, netconf.Element{Namespace: c.to, Name: "n"}, "k8s.v1.cni.cncf.io/networks")
		if (err == nil) != c.permit {
			t.Errorf("pod of %s, network of %s, %+v: %v", c.from, c.to, c.node, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.to+"/n") || !strings.Contains(err.Error(), "namespaceIsolation")) {
			t.Errorf("refusal says too little: %v", err)
		}
	}
}

func FuzzParseNode(f *testing.F) {
	for _, c := range multusFiles {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := netconf.ParseNode("x", data)
		if err == nil && len(n.Delegates) > 0 && n.ClusterNetwork != "" {
			t.Error("delegates count beside clusterNetwork")
		}
	})
}
