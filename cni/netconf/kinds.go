package netconf

import (
	"encoding/json"
	"slices"
)

// linkTypes are the plugins whose link Tendril makes itself, modifierTypes those
// that change one which a plugin before them made.
var (
	linkTypes     = []string{"sriov", "macvlan", "ipvlan", "vlan", "bridge", "host-device", "bond"}
	modifierTypes = []string{typeTuning, "sbr", "vrf"}
)

const typeTuning = "tuning"

// ownPlugins reports whether every plugin of n is one that Tendril is itself, in
// an order that makes sense.
func (n Network) ownPlugins() bool {
	if len(n.Plugins) == 0 || !slices.Contains(linkTypes, n.Plugins[0].Type) {
		return false
	}
	return !slices.ContainsFunc(n.Plugins[1:], func(p Plugin) bool { return !slices.Contains(modifierTypes, p.Type) })
}

// Later returns the plugins after the first one: those that change the interface
// which that one makes.
func (n Network) Later() []Plugin {
	if len(n.Plugins) == 0 {
		return nil
	}
	return n.Plugins[1:]
}

// At returns n with the i-th plugin of its list alone, as that plugin sees itself.
func (n Network) At(i int) Network {
	n.Plugins = n.Plugins[i : i+1 : i+1]
	return n
}

// Tunes reports whether a plugin tuning follows the first one: it takes a
// hardware address that the pod asks for, whatever the kind of the link.
func (n Network) Tunes() bool {
	return slices.ContainsFunc(n.Later(), func(p Plugin) bool { return p.Type == typeTuning })
}

// WithMAC returns n with runtimeConfig.mac set for each plugin tuning, as the
// capability mac, or MAC= in CNI_ARGS, has it. An empty mac changes nothing. n
// itself is not changed.
func WithMAC(n Network, mac string) Network {
	if mac == "" || !n.Tunes() {
		return n
	}
	value, _ := json.Marshal(mac) // a string cannot fail
	n.Plugins = slices.Clone(n.Plugins)
	for i, p := range n.Plugins {
		if p.Type == typeTuning {
			n.Plugins[i] = p.capability(capMAC, value)
		}
	}
	return n
}

// WithBandwidth returns n with runtimeConfig.bandwidth of its first plugin set to
// what the pod asks for; nil changes nothing. n itself is not changed.
func WithBandwidth(n Network, bandwidth json.RawMessage) Network {
	if bandwidth == nil || len(n.Plugins) == 0 {
		return n
	}
	n.Plugins = slices.Clone(n.Plugins)
	n.Plugins[0] = n.Plugins[0].capability(capBandwidth, bandwidth)
	return n
}

// capability returns p with one field of its runtimeConfig set. As in WithDevice,
// it cannot fail for what ParseNetwork returned; anything else stays as it is.
func (p Plugin) capability(name string, value json.RawMessage) Plugin {
	o := openObject("", p.Raw)
	inner := json.RawMessage("{}")
	if rc := o.open("runtimeConfig"); rc != nil {
		inner = o.raw("runtimeConfig")
	}
	inner, err := set(inner, map[string]json.RawMessage{name: value})
	if err == nil {
		if raw, err := set(p.Raw, map[string]json.RawMessage{"runtimeConfig": inner}); err == nil {
			p.Raw = raw
		}
	}
	return p
}
