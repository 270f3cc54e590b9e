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
	n.Plugins = slices.Clone(n.Plugins)
	value, _ := json.Marshal(map[string]string{"mac": mac}) // strings cannot fail
	for i, p := range n.Plugins {
		if p.Type != typeTuning {
			continue
		}
		// As in WithDevice, this cannot fail for what ParseNetwork returned.
		if raw, err := set(p.Raw, map[string]json.RawMessage{"runtimeConfig": value}); err == nil {
			n.Plugins[i].Raw = raw
		}
	}
	return n
}
