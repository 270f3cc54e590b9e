//go:build lab

package conformance

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// TestSameAsTheReferenceInTheMachine: kinds that not every kernel has.
func TestSameAsTheReferenceInTheMachine(t *testing.T) {
	ipvlan := conf("ipvlan", "master", "up0", "ipam", hostLocal("10.5.0.0/24"))
	vlan := conf("vlan", "master", "up0", "vlanId", 5, "ipam", hostLocal("10.6.0.0/24"))
	link := conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24", "2001:db8:1::/64"))
	inL3 := meant{`^(pod route table 254 0\.0\.0\.0/0|CHECK)`, "in l3 a default route goes to the interface: there is no gateway to ask for"}
	run(t, map[string]scenario{
		"ipvlan":     {chain: []map[string]any{ipvlan}},
		"ipvlan mtu": {chain: []map[string]any{with(ipvlan, "mtu", 1400)}},
		"ipvlan l3":  {chain: []map[string]any{with(ipvlan, "mode", "l3")}, meant: []meant{inL3}},
		"ipvlan l3s": {chain: []map[string]any{with(ipvlan, "mode", "l3s")}, meant: []meant{inL3}},
		"ipvlan layer 2": {chain: []map[string]any{conf("ipvlan", "master", "up0", "ipam", map[string]any{})}, meant: []meant{
			{`^(ADD|CHECK|result|pod (link|sysctl))`, "an ipvlan without addresses is possible"}}},
		"ipvlan chained": {chain: []map[string]any{conf("ipvlan", "ipam", static("10.5.0.9/24"),
			"prevResult", map[string]any{"cniVersion": "1.0.0", "interfaces": []any{map[string]any{"name": "up0"}}})},
			meant: []meant{{`^CHECK `, "CHECK goes by what ADD recorded; the reference looks for the chained master in the new result"}}},
		"vlan": {chain: []map[string]any{vlan}},
		"vlan inside": {
			before: func(t *testing.T, host, pod *netlink.Handle) { pairInside(t, pod, "eth0") },
			chain:  []map[string]any{conf("vlan", "master", "eth0", "vlanId", 7, "mtu", 1400, "linkInContainer", true, "ipam", static("10.6.0.9/24"))}},
		"vlan no master":    {chain: []map[string]any{conf("vlan", "vlanId", 5)}, meant: []meant{failedConf}},
		"bridge VLAN":       {chain: []map[string]any{conf("bridge", "bridge", "br0", "vlan", 5, "ipam", hostLocal("10.2.0.0/24"))}, meant: bridges},
		"bridge VLAN trunk": {chain: []map[string]any{conf("bridge", "bridge", "br0", "vlanTrunk", []any{map[string]any{"minID": 10, "maxID": 12}, map[string]any{"id": 20}})}, meant: append(bridges, noIPAM)},
		"vrf":               {chain: []map[string]any{link, conf("vrf", "vrfname", "red")}, meant: []meant{{`^(second DEL \[|CHECK )`, "second DEL and CHECK after vrf work"}}},
		"vrf table":         {chain: []map[string]any{link, conf("vrf", "vrfname", "red", "table", 77)}, meant: []meant{{`^(second DEL \[|CHECK )`, "second DEL and CHECK after vrf work"}}},
	})
}

// TestEveryVerbInTheMachine: the other kinds; those over VFs are in cmd/tendril-cni.
func TestEveryVerbInTheMachine(t *testing.T) {
	link := conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24"))
	slaves := []any{map[string]any{"name": "up0"}, map[string]any{"name": "wire0"}}
	for name, chain := range map[string][]map[string]any{
		"ipvlan": {conf("ipvlan", "master", "up0", "ipam", hostLocal("10.5.0.0/24"))},
		"vlan":   {conf("vlan", "master", "up0", "vlanId", 5, "ipam", hostLocal("10.6.0.0/24"))},
		"vrf":    {link, conf("vrf", "vrfname", "red")},
		"bond":   {conf("bond", "mode", "active-backup", "miimon", "100", "links", slaves, "ipam", hostLocal("10.7.0.0/24"))},
	} {
		t.Run(name, func(t *testing.T) { life(t, chain...) })
	}
}
