package netconf

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// fields are the keys that the parser of a type reads at the top of an entry.
// tests/house holds them against the parsers.
var fields = map[string][]string{
	"sriov": {"vlan", "vlanQoS", "vlanProto", "mac", "spoofchk", "trust", "link_state", "min_tx_rate", "max_tx_rate", "mtu",
		"promisc", "allmulti", "vlanTrunk"},
	"macvlan": {"master", "mode", "mtu", "mac", "linkInContainer", "bcqueuelen"},
	"ipvlan":  {"master", "mode", "flag", "mtu", "linkInContainer"},
	"vlan":    {"master", "vlanId", "mtu", "linkInContainer"},
	"bridge": {"bridge", "isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "ipMasqBackend", "mtu", "hairpinMode", "promiscMode",
		"vlan", "vlanTrunk", "preserveDefaultVlan", "macspoofchk", "enabledad", "disableContainerInterface", "portIsolation"},
	"host-device": {"device", "hwaddr", "kernelpath", "pciBusID", "deviceID"},
	"bond":        {"mode", "links", "linksInContainer", "miimon", "mtu", "failOverMac", "xmitHashPolicy", "allSlavesActive", "tlbDynamicLb"},
	typeTuning:    {"sysctl", "mac", "mtu", "promisc", "allmulti", "txQLen"},
	"sbr":         {"table", "gateways", "addSourceHints"},
	"vrf":         {"vrfname", "table"},
}

// common are the keys that any entry may have: those of the specification, and
// those that Tendril or a runtime adds.
var common = []string{"cniVersion", "cniVersions", "name", "type", "disableCheck", "disableGC", "capabilities", "ipam", "dns", "args",
	"runtimeConfig", "prevResult", "deviceID", "pciBusID"}

// elsewhere are keys that the plugin of a type has elsewhere and that mean nothing
// here, which nobody needs to be told: where it logs, and where it keeps its state.
var elsewhere = map[string][]string{"sriov": {"logLevel", "logFile"}, typeTuning: {"dataDir"}}

// Fields returns the keys of its own that a plugin of that type reads in process,
// in the order of docs/networks.md; nil for a type that is not served so.
func Fields(kind string) []string { return slices.Clone(fields[kind]) }

// Unread returns the keys of an entry that nothing reads, in alphabetical order.
// It knows the types that are served in process; of others it returns none. Keys
// of other objects inside the entry are not looked at.
func Unread(p Plugin) []string {
	own, ok := fields[p.Type]
	if !ok {
		return nil
	}
	known := map[string]bool{}
	for _, key := range slices.Concat(own, common, elsewhere[p.Type]) {
		known[strings.ToLower(key)] = true
	}
	var given map[string]json.RawMessage
	if json.Unmarshal(p.Raw, &given) != nil {
		return nil // its parser says so
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !known[strings.ToLower(key)] && !strings.HasPrefix(key, "cni.dev/") {
			out = append(out, key)
		}
	}
	return out
}
