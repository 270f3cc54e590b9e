package netconf_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// parsers are those of the kinds beside macvlan, ipvlan and sriov.
var parsers = map[string]func(netconf.Plugin) (any, error){
	"vlan":        func(p netconf.Plugin) (any, error) { return netconf.ParseVlan(p) },
	"bridge":      func(p netconf.Plugin) (any, error) { return netconf.ParseBridge(p) },
	"host-device": func(p netconf.Plugin) (any, error) { return netconf.ParseHostDevice(p) },
	"bond":        func(p netconf.Plugin) (any, error) { return netconf.ParseBond(p) },
	"tuning":      func(p netconf.Plugin) (any, error) { return netconf.ParseTuning(p) },
	"sbr":         func(p netconf.Plugin) (any, error) { return netconf.ParseSBR(p) },
	"vrf":         func(p netconf.Plugin) (any, error) { return netconf.ParseVRF(p) },
	"ipvlan":      func(p netconf.Plugin) (any, error) { return netconf.ParseIpvlan(p) },
}

func ptr[T any](v T) *T { return &v }

func TestKindsAndTheirDefaults(t *testing.T) {
	links := []string{"net1", "net2"}
	for _, test := range []struct {
		kind, conf string
		want       any
	}{
		{"vlan", `{"master":"eth1","vlanId":5,"mtu":1400,"linkInContainer":true}`, netconf.Vlan{Master: "eth1", ID: 5, MTU: 1400, LinkInContainer: true}},
		{"vlan", `{"MASTER":"eth1","unknown":{}}`, netconf.Vlan{Master: "eth1"}},
		{"bridge", `{}`, netconf.Bridge{Name: "cni0"}},
		{"bridge", `{"bridge":"br1","isDefaultGateway":true,"vlanTrunk":[{"minID":3,"maxID":5},{"id":4},{"id":9}],"args":{"cni":{"mac":"02:00:00:00:00:0A"}}}`,
			netconf.Bridge{Name: "br1", Gateway: true, DefaultGateway: true, Trunk: []int{3, 4, 5, 9}, VLANFiltering: true, MAC: "02:00:00:00:00:0a"}},
		{"host-device", `{"hwaddr":"02:00:00:00:00:0A","runtimeConfig":{"deviceID":"0000:01:10.2"}}`, netconf.HostDevice{HWAddr: "02:00:00:00:00:0a", DeviceID: "0000:01:10.2"}},
		{"bond", `{"mode":"802.3ad","miimon":"100","links":[{"name":"net1"},{"name":"net2"}],"xmitHashPolicy":"layer3+4","failOverMac":1}`,
			netconf.Bond{Mode: "802.3ad", Miimon: 100, Links: links, XmitHashPolicy: "layer3+4", FailOverMAC: ptr(1)}},
		{"tuning", `{"sysctl":{"net.b":"2","net.a":"1"},"promisc":true,"txQLen":0,"allmulti":false}`,
			netconf.Tuning{Sysctls: []netconf.Sysctl{{Key: "net.a", Value: "1"}, {Key: "net.b", Value: "2"}}, Promisc: true, TxQLen: ptr(0), Allmulti: ptr(false)}},
		{"tuning", `{"mtu":1,"args":{"cni":{"mtu":2,"promisc":false,"sysctl":{"net.a":"1"}}},"promisc":true}`, netconf.Tuning{MTU: 2, Sysctls: []netconf.Sysctl{{Key: "net.a", Value: "1"}}}},
		{"sbr", `{"table":50,"gateways":["10.0.0.1","2001:db8::1"],"addSourceHints":true}`,
			netconf.SourceRouting{Table: ptr(50), Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}, SourceHints: true}},
		{"vrf", `{"vrfname":"red","table":4294967295}`, netconf.VRF{Name: "red", Table: 4294967295}},
		{"ipvlan", `{"flag":"private"}`, netconf.Ipvlan{Mode: "l2", Flag: "private"}},
	} {
		got, err := parsers[test.kind](netconf.Plugin{Type: test.kind, Raw: json.RawMessage(test.conf)})
		if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("%s %s: %v (-want +got):\n%s", test.kind, test.conf, err, diff)
		}
	}
}

// FuzzParseKinds: whatever is written, a parser answers with a configuration or
// with a refusal that names the field and what is allowed.
func FuzzParseKinds(f *testing.F) {
	for kind := range parsers {
		for _, conf := range []string{
			`{}`, `null`, `[]`, `{"master":"eth0","vlanId":4094,"mtu":-1}`, `{"bridge":"a/b","vlan":"5"}`, `{"vlanTrunk":[{"minID":1,"maxID":4094},{"id":0}]}`,
			`{"device":"x","kernelpath":"/sys/devices/../x","pciBusID":"..","runtimeConfig":{"deviceID":7}}`,
			`{"mode":"active-backup","miimon":"1e3","links":[{"name":"a"},{"name":"b"}]}`, `{"sysctl":{"net/../x":"1","net.a":2},"args":{"cni":{"sysctl":[]}}}`,
			`{"table":-1,"gateways":["::1%1",""],"vrfname":"0123456789012345"}`,
		} {
			f.Add(kind, []byte(conf))
		}
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		parse, ok := parsers[kind]
		if !ok {
			return
		}
		for _, key := range netconf.Unread(netconf.Plugin{Type: kind, Raw: data}) {
			if slices.Contains(netconf.Fields(kind), strings.ToLower(key)) {
				t.Errorf("%s %q: %s is read", kind, data, key)
			}
		}
		_, err := parse(netconf.Plugin{Type: kind, Raw: data})
		var r *refusal.Refusal
		if err != nil && (!errors.As(err, &r) || r.Allowed == "") {
			t.Errorf("%s %q: %v", kind, data, err)
		}
		c, err := netconf.ParseBridge(netconf.Plugin{Type: "bridge", Raw: data})
		if err == nil && (c.VLAN < 0 || c.VLAN > 4094 || len(c.Trunk) > 4094 || !netconf.ValidIfName(c.Name)) {
			t.Errorf("bridge %q: %+v", data, c)
		}
	})
}
