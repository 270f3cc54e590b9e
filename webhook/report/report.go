package report

import (
	"encoding/json"
	"slices"
	"strings"
)

// The annotations. The first three hold names, sorted and separated by commas,
// the last one JSON.
const (
	// PluginsAnnotation lists the plugin types that the node can attach: the kinds
	// of the daemon, and executables.
	PluginsAnnotation = "tendril.dev/cni-plugins"
	// LinksAnnotation lists the links of the host that may be the master of a
	// network, alternative names included. Links that come and go with pods, which
	// are veths and VFs, are not among them.
	LinksAnnotation = "tendril.dev/links"
	// UserspaceAnnotation lists resources with a device that has a userspace
	// driver.
	UserspaceAnnotation = "tendril.dev/userspace-resources"
	// GivenAnnotation says how many networks pods get that they do not ask for.
	GivenAnnotation = "tendril.dev/given-networks"
)

// Annotations are the keys of all of them.
var Annotations = []string{PluginsAnnotation, LinksAnnotation, UserspaceAnnotation, GivenAnnotation}

// Node is what one node reports. Each field is nil when it is not known.
type Node struct {
	Plugins, Links, Userspace []string
	Given                     *Given
}

// Given are the networks beside the default one that a node's configuration gives
// to pods (docs/configuration.md). They come before those that a pod asks for and
// have the names net1, net2, ...
type Given struct {
	// Always is for pods of every namespace, Default for those of all namespaces
	// but System.
	Always  int      `json:"always"`
	Default int      `json:"default"`
	System  []string `json:"system"`
}

// In returns how many a pod of the namespace gets.
func (g Given) In(namespace string) int {
	if slices.Contains(g.System, namespace) {
		return g.Always
	}
	return g.Always + g.Default
}

// Annotations returns the annotations for what is known.
func (n Node) Annotations() map[string]string {
	out := map[string]string{}
	for key, names := range map[string][]string{PluginsAnnotation: n.Plugins, LinksAnnotation: n.Links, UserspaceAnnotation: n.Userspace} {
		if names != nil {
			out[key] = strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ",")
		}
	}
	if n.Given != nil {
		text, _ := json.Marshal(n.Given) // numbers and texts: it always encodes
		out[GivenAnnotation] = string(text)
	}
	return out
}

// Parse reads the annotations of a Node object.
func Parse(annotations map[string]string) Node {
	var n Node
	for key, into := range map[string]*[]string{PluginsAnnotation: &n.Plugins, LinksAnnotation: &n.Links, UserspaceAnnotation: &n.Userspace} {
		if text, has := annotations[key]; has {
			*into = append([]string{}, strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	if text, has := annotations[GivenAnnotation]; has {
		var g Given
		if json.Unmarshal([]byte(text), &g) == nil && g.Always >= 0 && g.Default >= 0 {
			n.Given = &g
		}
	}
	return n
}
