package netconf

import "encoding/json"

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

// DNS is the dns object of CNI results and configurations.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}
