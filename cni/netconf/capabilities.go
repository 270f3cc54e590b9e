package netconf

import (
	"encoding/json"
	"slices"
)

// Capabilities of the CNI conventions that a pod can ask for in a selection,
// in the order in which they are reported.
const (
	capIPs          = "ips"
	capMAC          = "mac"
	capPortMappings = "portMappings"
	capBandwidth    = "bandwidth"
	capGUID         = "infinibandGUID"
	capDevice       = "deviceID"
)

// requests returns the capability arguments that e asks for.
func (e Element) requests() (order []string, values map[string]json.RawMessage) {
	values = map[string]json.RawMessage{}
	add := func(name string, asked bool, value any) {
		if !asked {
			return
		}
		// Strings, lists of them and checked raw JSON always encode.
		text, _ := json.Marshal(value)
		order, values[name] = append(order, name), text
	}
	add(capIPs, len(e.IPs) > 0, e.IPs)
	add(capMAC, e.MAC != "", e.MAC)
	add(capPortMappings, len(e.PortMappings) > 0, e.PortMappings)
	add(capBandwidth, len(e.Bandwidth) > 0, e.Bandwidth)
	add(capGUID, e.InfinibandGUID != "", e.InfinibandGUID)
	return order, values
}

// RuntimeConfig returns the capability arguments of e for p: only those that p
// declares (CNI CONVENTIONS.md, "dynamic plugin specific fields"), nil when
// there are none. device is the device given to the attachment; without one the
// element's own deviceID stands in.
func RuntimeConfig(p Plugin, e Element, device ...string) map[string]json.RawMessage {
	_, values := e.requests()
	id := e.DeviceID
	if len(device) > 0 && device[0] != "" {
		id = device[0]
	}
	if id != "" {
		values[capDevice], _ = json.Marshal(id)
	}
	var out map[string]json.RawMessage
	for name, value := range values {
		if !p.Capabilities[name] {
			continue
		}
		if out == nil {
			out = map[string]json.RawMessage{}
		}
		out[name] = value
	}
	return out
}

// Undeclared returns the capabilities that e asks for and that no plugin of n
// declares, in a fixed order. The NPWG standard (v1.3) says that such
// an attachment must fail.
func Undeclared(n Network, e Element) []string {
	order, _ := e.requests()
	return slices.DeleteFunc(order, func(name string) bool {
		return slices.ContainsFunc(n.Plugins, func(p Plugin) bool { return p.Capabilities[name] })
	})
}

// readers are the types that take a request from CNI_ARGS (IP=, MAC=) whether
// or not they declare the capability; for ips it is the IPAM type that counts.
var readers = map[string][]string{
	capMAC: {"sriov", "macvlan", "bridge", "tuning", "host-device", "tap"},
	capIPs: {"static", "host-local", "whereabouts"},
}

// ReadsArgs reports whether n has a plugin that is known to honour capability
// ("ips" or "mac") through CNI_ARGS. An undeclared request is worth a warning
// then, and a refusal otherwise.
func ReadsArgs(n Network, capability string) bool {
	return slices.ContainsFunc(n.Plugins, func(p Plugin) bool {
		kind := p.Type
		if capability == capIPs {
			_, kind, _ = ParseIPAM(p)
		}
		return slices.Contains(readers[capability], kind)
	})
}
