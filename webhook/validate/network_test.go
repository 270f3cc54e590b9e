package validate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"github.com/rogpeppe/go-internal/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/webhook/validate"
)

func definition(name, config string, annotations ...string) *nad.NetworkAttachmentDefinition {
	d := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "blue", Name: name}, Spec: nad.NetworkAttachmentDefinitionSpec{Config: config}}
	for i := 0; i+1 < len(annotations); i += 2 {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, annotations[i], annotations[i+1])
	}
	return d
}

// known is definitions that exist.
type known []*nad.NetworkAttachmentDefinition

func (k known) Network(namespace, name string) *nad.NetworkAttachmentDefinition {
	for _, d := range k {
		if d.Namespace == namespace && d.Name == name {
			return d
		}
	}
	return nil
}

func (k known) Summaries() []*validate.Summary {
	var out []*validate.Summary
	for _, d := range k {
		if s := validate.Summarize(d); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// brief is "<level> <code> <field>" of each finding.
func brief(found []validate.Finding) []string {
	out := []string{}
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s %s %s", f.Level, f.Code, f.Refusal.Field))
	}
	return out
}

// TestUpstreamExamples: what the upstream projects document is never denied.
func TestUpstreamExamples(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/upstream.txtar")
	if err != nil || len(archive.Files) < 40 {
		t.Fatalf("%d examples, error %v", len(archive.Files), err)
	}
	for _, f := range archive.Files {
		config := string(f.Data)
		var annotations []string
		if rest, ok := strings.CutPrefix(config, "resource: "); ok {
			resource, json, _ := strings.Cut(rest, "\n")
			annotations, config = []string{validate.ResourceAnnotation, resource}, json
		}
		for _, bad := range validate.Denied(validate.Network(definition("example", config, annotations...), validate.Facts{})) {
			t.Errorf("%s: %s", f.Name, bad)
		}
	}
}

func TestInvariant9NetworkRules(t *testing.T) {
	const resource = validate.ResourceAnnotation
	for _, tt := range []struct {
		config      string
		annotations []string
		want        []string
	}{
		{``, nil, nil},
		{` `, nil, nil},
		{`{`, nil, []string{"deny N001 spec.config"}},
		{`[]`, nil, []string{"deny N001 spec.config"}},
		{`{"type":"a","type":"b"}`, nil, []string{"deny N001 spec.config.type"}},
		{`{"type":"a","mtu":1,"MTU": 2}`, nil, []string{"deny N001 spec.config.MTU"}},
		{`{"type":"a","mtu":1,"mtu":1}`, nil, []string{"warn N001 spec.config.mtu"}},
		{`{}`, nil, []string{"deny N002 spec.config.type"}},
		{`{"type":5}`, nil, []string{"deny N002 spec.config.type"}},
		{`{"type":null,"name":"x"}`, nil, []string{"deny N002 spec.config.type"}},
		{`{"plugins":[]}`, nil, []string{"deny N002 spec.config.type"}},
		{`{"plugins":{}}`, nil, []string{"deny N002 spec.config.plugins"}},
		{`{"plugins":["x"]}`, nil, []string{"deny N002 spec.config.plugins[0]"}},
		{`{"plugins":[{"type":"a"},{}]}`, nil, []string{"deny N002 spec.config.plugins[1].type"}},
		{`{"type":"a","name":"../x"}`, nil, []string{"deny N002 spec.config.name"}},
		{`{"type":"a","cniVersion":"2.0.0"}`, nil, []string{"deny N004 spec.config.cniVersion"}},
		{`{"type":"sriov","vlan":4095}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.vlan"}},
		{`{"type":"sriov","vlan":-1}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.vlan"}},
		{`{"type":"sriov","vlan":5,"vlanQoS":8}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.vlanQoS"}},
		{`{"type":"sriov","vlan":0,"vlanQoS":1}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.vlanQoS"}},
		{`{"type":"sriov","vlan":5,"vlanProto":"x"}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.vlanProto"}},
		{`{"type":"sriov","min_tx_rate":5,"max_tx_rate":4}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.min_tx_rate"}},
		{`{"plugins":[{"type":"tuning"},{"type":"sriov","trust":"yes"}]}`, []string{resource, "v/r"}, []string{"deny N005 spec.config.plugins[1].trust"}},
		{`{"type":"vlan","vlanId":4095}`, nil, []string{"deny N005 spec.config.vlanId"}},
		{`{"type":"bridge","vlan":"5"}`, nil, []string{"deny N005 spec.config.vlan"}},
		{`{"type":"macvlan","mtu":70000}`, nil, []string{"deny N005 spec.config.mtu"}},
		{`{"type":"macvlan","mode":"l2"}`, nil, []string{"deny N006 spec.config.mode"}},
		{`{"type":"ipvlan","mode":"bridge"}`, nil, []string{"deny N006 spec.config.mode"}},
		{`{"type":"sriov"}`, nil, []string{"deny N010 metadata.annotations[" + resource + "]"}},
		{`{"plugins":[{"type":"sriov"}]}`, []string{resource, ""}, []string{"deny N010 metadata.annotations[" + resource + "]"}},
		{`{"type":"sriov","deviceID":"0000:00:00.1"}`, nil, nil},
		{`{"type":"ipvlan","capabilities":{"mac":true}}`, nil, []string{"deny N012 spec.config.capabilities.mac"}},
		{`{"type":"ipvlan","capabilities":{"mac":false}}`, nil, nil},
		{`{"type":"macvlan","capabilities":{"ips":true},"ipam":{"type":"dhcp"}}`, nil, []string{"deny N012 spec.config.capabilities.ips"}},
		{`{"type":"a","ipam":5}`, nil, []string{"deny N007 spec.config.ipam"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.1/24"}}`, nil, []string{"deny N007 spec.config.ipam.subnet"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/31"}}`, nil, []string{"deny N007 spec.config.ipam.subnet"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"}}`, nil, []string{"deny N007 spec.config.ipam.rangeEnd"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/24","rangeStart":"10.0.1.9"}}`, nil, []string{"deny N007 spec.config.ipam.rangeStart"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/24","gateway":"fd00::1"}}`, nil, []string{"deny N007 spec.config.ipam.gateway"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/24","gateway":"10.1.0.1"}}`, nil, []string{"warn N007 spec.config.ipam.ranges[0][0].gateway"}},
		{`{"type":"a","ipam":{"type":"host-local","subnet":"10.0.0.0/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]}}`, nil, []string{"deny N007 spec.config.ipam.ranges[0][0].gateway"}},
		{`{"type":"a","ipam":{"type":"static","addresses":[{"address":"10.0.0.1"}]}}`, nil, []string{"deny N007 spec.config.ipam.addresses[0].address"}},
		{`{"type":"a","ipam":{"type":"whereabouts"}}`, nil, []string{"warn N007 spec.config.ipam.range"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0"}}`, nil, []string{"deny N007 spec.config.ipam.range"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/31"}}`, nil, []string{"deny N007 spec.config.ipam.range"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.5/24"}}`, nil, []string{"warn N007 spec.config.ipam.range"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/24","range_start":"10.0.0.9","range_end":"10.0.0.8"}}`, nil, []string{"deny N007 spec.config.ipam.range_end"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/24","range_end":"fd00::1"}}`, nil, []string{"deny N007 spec.config.ipam.range_end"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/24","exclude":["x"]}}`, nil, []string{"deny N007 spec.config.ipam.exclude[0]"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/24","exclude":["10.1.0.0/24"]}}`, nil, []string{"warn N007 spec.config.ipam.exclude[0]"}},
		{`{"type":"a","ipam":{"type":"whereabouts","ipRanges":[{"range":"fd00::/64"},{"range":"10.0.0.0/30","exclude":["10.0.0.2","10.0.0.1/32"]}]}}`, nil, []string{"deny N007 spec.config.ipam.ipRanges[1].exclude"}},
		{`{"type":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/29","exclude":["10.0.0.0/31","10.0.0.4/30"]}}`, nil, nil},
		{`{"type":"a","ipam":{"type":"someone-elses","range":5}}`, nil, nil},
	} {
		found := validate.Network(definition("n", tt.config, tt.annotations...), validate.Facts{})
		want := tt.want
		if want == nil {
			want = []string{}
		}
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.config, found, diff)
		}
		wantWhole(t, tt.config, found)
	}
}

// wantWhole fails unless every finding has all its parts in one line.
func wantWhole(t *testing.T, what string, found []validate.Finding) {
	t.Helper()
	for _, f := range found {
		if f.Refusal.Object == "" || f.Refusal.Allowed == "" || f.Refusal.Value == "" || strings.ContainsAny(f.String(), "\n\r") {
			t.Errorf("%q: %+v is not whole", what, f.Refusal)
		}
	}
}

// TestNetworkAmongOthers are the rules that need to know the cluster.
func TestNetworkAmongOthers(t *testing.T) {
	other := definition("other", `{"type":"macvlan","name":"shared","master":"eth0","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}}`)
	far := definition("far", `{"type":"macvlan","name":"shared","master":"eth9"}`)
	far.Namespace = "red"
	cluster := validate.Facts{
		Networks: known{other, far}, Plugins: []string{"bridge", "macvlan"}, Resources: map[string]bool{"v.io/a": true},
		PodNets: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceNets: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
		NodeAddrs: []netip.Addr{netip.MustParseAddr("192.168.1.1")},
		Links: func(selector string) (map[string]bool, bool) {
			return map[string]bool{"eth0": true}, selector != "unreported"
		},
	}
	for _, tt := range []struct {
		d    *nad.NetworkAttachmentDefinition
		want []string
	}{
		{other, []string{"warn N013 spec.config.name"}}, // by far, not by itself
		{definition("n", `{"type":"ipvlan","name":"x","master":"eth0"}`), []string{"warn N003 spec.config.type"}},
		{definition("n", `{"type":"macvlan","name":"shared","master":"eth0"}`), []string{"warn N013 spec.config.name"}},
		{definition("n", `{"type":"bridge","name":"shared","bridge":"br0"}`), []string{"warn N013 spec.config.name"}},
		{definition("n", `{"type":"macvlan","master":"eth1"}`), []string{"warn N011 spec.config.master"}},
		{definition("n", `{"type":"macvlan","master":"eth1"}`, "k8s.v1.cni.cncf.io/nodeSelector", "unreported"), nil},
		{definition("n", `{"type":"macvlan","master":"eth1","linkInContainer":true}`), nil},
		{definition("n", `{"type":"macvlan","master":"eth0v3"}`), nil}, // VFs are not reported
		{definition("n", `{"type":"macvlan","master":"eth1v3"}`), []string{"warn N011 spec.config.master"}},
		{definition("n", `{"type":"macvlan","master":"eth0v"}`), []string{"warn N011 spec.config.master"}},
		{definition("n", `{"type":"macvlan","master":"eth0"}`, validate.ResourceAnnotation, "v.io/b"), []string{"warn N009 metadata.annotations[k8s.v1.cni.cncf.io/resourceName]"}},
		{definition("n", `{"type":"macvlan","master":"eth0","ipam":{"type":"host-local","subnet":"10.0.0.128/25"}}`), []string{"warn N008 spec.config.ipam"}},
		{definition("n", `{"type":"macvlan","master":"eth0","vlan":5,"ipam":{"type":"host-local","subnet":"10.0.0.128/25"}}`),
			[]string{"warn N015 spec.config.vlan"}},
		{definition("n", `{"type":"macvlan","master":"eth0","ipam":{"type":"whereabouts","range":"10.244.0.0/24"}}`), []string{"warn N008 spec.config.ipam"}},
		{definition("n", `{"type":"macvlan","master":"eth0","ipam":{"type":"whereabouts","range":"10.100.0.0/24"}}`), []string{"warn N008 spec.config.ipam"}},
		{definition("n", `{"type":"macvlan","master":"eth0","ipam":{"type":"whereabouts","range":"192.168.1.0/24"}}`), []string{"warn N008 spec.config.ipam"}},
		{definition("n", `{"type":"macvlan","master":"eth0","ipam":{"type":"whereabouts","range":"192.168.2.0/24"}}`), nil},
	} {
		want := slices.Clip(tt.want)
		if want == nil {
			want = []string{}
		}
		found := validate.Network(tt.d, cluster)
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.d.Spec.Config, found, diff)
		}
		wantWhole(t, tt.d.Spec.Config, found)
	}
	cluster.Strict = true
	want := []string{"deny N003 spec.config.type", "deny N013 spec.config.name"}
	if diff := cmp.Diff(want, brief(validate.Network(definition("n", `{"type":"a","name":"shared"}`), cluster))); diff != "" {
		t.Errorf("strict: %s", diff)
	}
}

// TestNetworkChange: what was accepted once does not hold up an edit beside it,
// and what running pods do not see is said.
func TestNetworkChange(t *testing.T) {
	bad := definition("n", `{"type":"sriov","vlan":5000,"deviceID":"x"}`)
	edited := definition("n", `{"type":"sriov","vlan":5000,"deviceID":"x"}`, "edited", "yes")
	if got := validate.Denied(validate.NetworkChange(bad, edited, validate.Facts{})); len(got) != 0 {
		t.Errorf("an edit beside it: %v", got)
	}
	worse := definition("n", `{"type":"sriov","vlan":5001,"deviceID":"x"}`)
	if got := validate.Denied(validate.NetworkChange(bad, worse, validate.Facts{})); len(got) != 1 {
		t.Errorf("another bad value: %v", got)
	}
	old, moved := definition("n", `{"type":"macvlan","master":"eth0"}`), definition("n", `{"type":"macvlan","master":"eth1"}`)
	for count, want := range map[int][]string{0: {}, 3: {"warn N014 spec.config.master"}} {
		f := validate.Facts{Attached: func(string, string) int { return count }}
		found := validate.NetworkChange(old, moved, f)
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%d pods: %s", count, diff)
		}
		if count > 0 && !strings.Contains(found[0].String(), "3 pods") {
			t.Errorf("no count: %s", found[0])
		}
	}
}

func FuzzNetwork(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/upstream.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, one := range archive.Files {
		f.Add(string(one.Data))
	}
	f.Add(`{"type":"a","ipam":{"type":"whereabouts","range":"0.0.0.0/0","exclude":["255.255.255.254/31"]}}`)
	f.Add(`{"type":"a","ipam":{"type":"whereabouts","range":"::/0","exclude":["ffff::/16","::/1","8000::/1"]}}`)
	other := definition("other", `{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/8"}}`)
	f.Fuzz(func(t *testing.T, config string) {
		facts := validate.Facts{Networks: known{other}, PodNets: []netip.Prefix{netip.MustParsePrefix("fd00::/8")}}
		wantWhole(t, config, validate.NetworkChange(other, definition("n", config), facts))
	})
}

// TestFieldsWithoutEffect: warned of, never denied, with what may have been meant.
func TestFieldsWithoutEffect(t *testing.T) {
	for _, tt := range []struct {
		config string
		want   []string
		text   string
	}{
		{`{"type":"sriov","deviceID":"x","vlann":5}`, []string{"warn N015 spec.config.vlann"}, "allowed: vlan,"},
		{`{"type":"sriov","deviceID":"x","spoofcheck":"on"}`, []string{"warn N015 spec.config.spoofcheck"}, "allowed: spoofchk,"},
		{`{"type":"sriov","deviceID":"x","VLAN":5,"logLevel":"debug"}`, nil, ""},
		{`{"type":"macvlan","mater":"eth0","banana":1}`, []string{"warn N015 spec.config.banana", "warn N015 spec.config.mater"}, "type macvlan has no such field"},
		{`{"name":"n","plugins":[{"type":"macvlan"},{"type":"tuning","mtuu":9000}]}`, []string{"warn N015 spec.config.plugins[1].mtuu"}, "allowed: mtu,"},
		{`{"name":"n","plugins":[{"type":"macvlan"},{"type":"banana","mtuu":9000}]}`, nil, ""},
		{`{"type":"macvlan","ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/24","range_start":"10.0.0.9"}]]}}`,
			[]string{"warn N015 spec.config.ipam.ranges[0][0].range_start"}, `value "10.0.0.9" is not allowed; allowed: rangeStart, if that is what is meant: ipam of type host-local has no such field`},
		{`{"type":"macvlan","ipam":{"type":"host-local","subnet":"10.0.0.0/24","resolvConf":"/etc/resolv.conf","dns":{}}}`,
			[]string{"warn N015 spec.config.ipam.resolvConf", "warn N015 spec.config.ipam.dns"}, "name the servers in dns"},
		{`{"type":"bridge","ipMasqBackend":"iptables","ipam":{"type":"static","addresses":[{"address":"10.0.0.1/24"}],"dns":{"search":["a"]}}}`,
			[]string{"warn N015 spec.config.ipMasqBackend"}, "nftables"},
		{`{"type":"bridge","dns":{"search":["b"]},"ipam":{"type":"static","addresses":[{"address":"10.0.0.1/24"}],"dns":{"search":["a"]}}}`,
			[]string{"warn N015 spec.config.ipam.dns"}, "beside ipam"},
	} {
		found := validate.Network(definition("n", tt.config), validate.Facts{})
		if diff := cmp.Diff(append([]string{}, tt.want...), brief(found)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.config, found, diff)
		}
		if text := fmt.Sprint(found); !strings.Contains(text, tt.text) {
			t.Errorf("%s: %s does not say %q", tt.config, text, tt.text)
		}
		wantWhole(t, tt.config, found)
	}
}
