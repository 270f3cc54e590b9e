package kube_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// What the records of a pod become in the annotation: the rules of NPWG v1.3 in
// the form in which consumers know them from Multus.
func TestStatusEntries(t *testing.T) {
	foreign := func(isDefault bool, network, result string) cni.Record {
		return cni.Record{Phase: cni.Attached, Result: json.RawMessage(result), Attachment: cni.Attachment{
			Kind: cni.KindExec, Network: network, IfName: "net1", Default: isDefault, Netns: cni.Netns{Path: "/run/netns/x"},
		}}
	}
	for name, tc := range map[string]struct {
		records []cni.Record
		want    string
	}{
		"bridge: the host's side is left out": {
			[]cni.Record{foreign(true, "cbr0", `{"cniVersion":"1.0.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01"},{"name":"veth1"},
				{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/x"}],"ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1","interface":2}],
				"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"10.0.0.0/8","gw":"10.1.0.2"}],"dns":{"nameservers":["10.1.0.9"]}}`)},
			`[{"name":"cbr0","interface":"eth0","ips":["10.1.0.5"],"mac":"02:00:00:00:00:02","default":true,"dns":{"nameservers":["10.1.0.9"]},"gateway":["10.1.0.1"]}]`,
		},
		"one interface takes all addresses, whatever their index": {
			[]cni.Record{foreign(false, "blue/a", `{"cniVersion":"1.1.0","interfaces":[{"name":"net1","mtu":9000}],
				"ips":[{"address":"10.1.0.5/24","interface":7},{"address":"fd00::5/64"}]}`)},
			`[{"name":"blue/a","interface":"net1","ips":["10.1.0.5","fd00::5"],"mtu":9000,"dns":{}}]`,
		},
		"an entry for each interface in the pod": {
			[]cni.Record{foreign(true, "twin", `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"},{"name":"host"},{"name":"eth1","sandbox":"/x"}],
				"ips":[{"address":"10.1.0.5/24","interface":0},{"address":"10.2.0.5/24","gateway":"10.2.0.1","interface":2},{"address":"10.3.0.5/24"}],
				"routes":[{"dst":"0.0.0.0/0","gw":"10.2.0.1"}]}`)},
			`[{"name":"twin","interface":"eth0","ips":["10.1.0.5"],"dns":{},"gateway":["10.2.0.1"]},
			  {"name":"twin","interface":"eth1","ips":["10.2.0.5","10.3.0.5"],"default":true,"dns":{},"gateway":["10.2.0.1"]}]`,
		},
		"default without a gateway is the first interface": {
			[]cni.Record{foreign(true, "twin", `{"cniVersion":"1.0.0","interfaces":[{"name":"host"},{"name":"eth0","sandbox":"/x"},{"name":"eth1","sandbox":"/x"}]}`)},
			`[{"name":"twin","interface":"eth0","default":true,"dns":{}},{"name":"twin","interface":"eth1","dns":{}}]`,
		},
		"no interface reported: a minimal entry": {
			[]cni.Record{foreign(false, "blue/quiet", `{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24"}]}`)},
			`[{"name":"blue/quiet","interface":"net1","ips":["10.1.0.5"],"dns":{}}]`,
		},
		"default route without a gateway: nothing, and not <nil>": {
			[]cni.Record{foreign(false, "blue/p2p", `{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/x"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fe80::1"}]}`)},
			`[{"name":"blue/p2p","interface":"net1","dns":{},"gateway":["fe80::1"]}]`,
		},
		"native kinds, in the order of attachment": {
			[]cni.Record{{
				Attachment: cni.Attachment{Kind: cni.KindMacvlan, Network: "cbr0", IfName: "eth0", Default: true, Netns: cni.Netns{Path: "/x"},
					Addresses: []cni.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24"), Gateway: netip.MustParseAddr("10.1.0.1")}},
					Routes:    []cni.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}}},
				Link: cni.Link{Name: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500},
			}, {
				Attachment: cni.Attachment{Kind: cni.KindSriov, Network: "blue/vf", IfName: "net1", Netns: cni.Netns{Path: "/x"}, Device: "0000:01:10.2",
					DNS: netconf.DNS{Search: []string{"blue"}}},
				Link: cni.Link{Name: "net1", MAC: "02:00:00:00:00:02", MTU: 9000, PCI: "0000:01:10.2"},
			}},
			`[{"name":"cbr0","interface":"eth0","ips":["10.1.0.5"],"mac":"02:00:00:00:00:01","mtu":1500,"default":true,"dns":{},"gateway":["10.1.0.1"]},
			  {"name":"blue/vf","interface":"net1","mac":"02:00:00:00:00:02","mtu":9000,"dns":{"search":["blue"]},
			   "device-info":{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:10.2"}}}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(cni.Statuses(tc.records))
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
