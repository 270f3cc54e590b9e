package kube

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// What node agents report of their node, as annotations of the Node: names,
// separated by commas. A fact counts only when every node reports it.
const (
	// PluginsAnnotation lists the CNI plugins of the node.
	PluginsAnnotation = "tendril.dev/cni-plugins"
	// LinksAnnotation lists the links that networks may use.
	LinksAnnotation = "tendril.dev/links"
	// UserspaceAnnotation lists resources whose devices have a userspace driver.
	UserspaceAnnotation = "tendril.dev/userspace-resources"
)

// reported returns the annotations of a node that are looked at.
func reported(annotations map[string]string) map[string]string {
	out := map[string]string{}
	for _, key := range []string{PluginsAnnotation, LinksAnnotation, UserspaceAnnotation} {
		if v, has := annotations[key]; has {
			out[key] = v
		}
	}
	return out
}

// factsOf returns what nodes and device classes say.
func factsOf(nodes []*corev1.Node, classes []*resourcev1.DeviceClass) validate.Facts {
	f := validate.Facts{Resources: map[string]bool{}, Userspace: map[string]bool{}}
	for _, n := range nodes {
		for name := range n.Status.Allocatable {
			if strings.Contains(string(name), "/") {
				f.Resources[string(name)] = true
			}
		}
		for _, r := range names(n.Annotations[UserspaceAnnotation]) {
			f.Userspace[r] = true
		}
		for _, text := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				f.PodNets = append(f.PodNets, p)
			}
		}
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				f.NodeAddrs = append(f.NodeAddrs, ip)
			}
		}
	}
	for _, c := range classes {
		f.Resources[c.Name] = true
		if c.Spec.ExtendedResourceName != nil {
			f.Resources[*c.Spec.ExtendedResourceName] = true
		}
	}
	if all, known := union(nodes, PluginsAnnotation); known {
		f.Plugins = slices.Sorted(maps.Keys(all))
	}
	f.Links = func(selector string) (map[string]bool, bool) {
		return union(selected(nodes, selector), LinksAnnotation)
	}
	return f
}

func names(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// union returns what any of nodes reports; known is false unless all report.
func union(nodes []*corev1.Node, key string) (all map[string]bool, known bool) {
	all = map[string]bool{}
	for _, n := range nodes {
		text, has := n.Annotations[key]
		if !has {
			return nil, false
		}
		for _, name := range names(text) {
			all[name] = true
		}
	}
	return all, len(nodes) > 0
}

// selected returns the nodes with the label "key=value" or "key", all for "".
func selected(nodes []*corev1.Node, selector string) []*corev1.Node {
	if selector == "" {
		return nodes
	}
	key, value, _ := strings.Cut(selector, "=")
	return slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool {
		v, has := n.Labels[strings.TrimSpace(key)]
		return !has || v != strings.TrimSpace(value)
	})
}
