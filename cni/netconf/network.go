package netconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Network is a CNI network configuration list, whatever form it was written in
// (single plugin or list), read but not lost: each plugin keeps its own bytes.
type Network struct {
	Name         string   `json:"name"`
	CNIVersion   string   `json:"cniVersion"`
	DisableCheck bool     `json:"disableCheck,omitempty"`
	DisableGC    bool     `json:"disableGC,omitempty"`
	Plugins      []Plugin `json:"plugins"`
}

// Plugin is one entry of a Network.
type Plugin struct {
	Type string `json:"type"`
	// Capabilities that the entry declares true.
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	// Raw is the entry as written, unknown fields included.
	Raw json.RawMessage `json:"raw"`
}

// ParseNetwork reads a CNI configuration. object names its carrier in refusals,
// such as `NetworkAttachmentDefinition "blue/storage"`. A non-empty type at the
// top makes it a single plugin, anything else must be a list with plugins. A
// missing or empty name becomes defaultName; a name that is there stays, even
// when it differs. CNIVersion is the highest version both sides speak, 0.1.0
// when none is given.
//
// Every error is a refusal.Refusal; that of a JSON syntax error has a Position
// as its cause.
func ParseNetwork(object string, data []byte, defaultName string) (Network, error) {
	n, err := parseNetwork(data, defaultName)
	if err != nil {
		return Network{}, refusal.Name(err, object)
	}
	return n, nil
}

func parseNetwork(data []byte, defaultName string) (Network, error) {
	o := openObject("", data)
	if o.err != nil {
		return Network{}, o.err
	}
	n := Network{
		Name:         o.text("name"),
		CNIVersion:   o.version(),
		DisableCheck: o.looseFlag("disableCheck"),
		DisableGC:    o.looseFlag("disableGC"),
	}
	if n.Name == "" {
		n.Name = defaultName
	}
	if !validName(n.Name) {
		o.refuse("name", n.Name, nameForm)
	}
	entries, single := []json.RawMessage{data}, o.text("type") != ""
	if !single {
		entries = o.list("plugins")
	}
	if len(entries) == 0 {
		o.refuse("type", o.text("type"), "the name of a plugin, or plugins: a list of at least one")
	}
	for i, raw := range entries {
		path := ""
		if !single {
			path = fmt.Sprintf("plugins[%d]", i)
		}
		p, err := parsePlugin(path, raw)
		if err != nil && o.err == nil {
			o.err = err
		}
		n.Plugins = append(n.Plugins, p)
	}
	return n, o.err
}

// parsePlugin reads the part of an entry that every plugin has.
func parsePlugin(path string, raw json.RawMessage) (Plugin, error) {
	o := openObject(path, raw)
	p := Plugin{Type: o.text("type"), Raw: bytes.Clone(raw)}
	if !validName(p.Type) {
		o.refuse("type", p.Type, "the name of a plugin: "+nameForm)
	}
	if caps := o.open("capabilities"); caps != nil {
		var declared map[string]bool
		if json.Unmarshal(o.raw("capabilities"), &declared) != nil {
			o.refuse("capabilities", shown(o.raw("capabilities")), "an object of booleans")
		}
		for name, on := range declared {
			if on {
				p.declare(name)
			}
		}
	}
	if ipam := o.open("ipam"); ipam != nil {
		if kind := ipam.text("type"); kind != "" && !validName(kind) {
			ipam.refuse("type", kind, "the name of a plugin: "+nameForm)
		}
		o.close(ipam)
	}
	return p, o.err
}

func (p *Plugin) declare(capability string) {
	if p.Capabilities == nil {
		p.Capabilities = map[string]bool{}
	}
	p.Capabilities[capability] = true
}

// Native reports whether n can be served in process: a link of a kind that
// Tendril makes itself, and after it, in a chain, only plugins that Tendril is
// itself (tuning, sbr, vrf); with an ipam that is absent, empty, or of type
// static, host-local, dhcp, whereabouts or tendril. Anything else has to be
// executed, all of it. Native does not validate: a native network may still be
// refused by the parser of its types.
func (n Network) Native() bool {
	if !n.ownPlugins() {
		return false
	}
	_, kind, err := ParseIPAM(n.Plugins[0])
	if err != nil {
		return true
	}
	return slices.Contains(served, kind)
}
