package kube

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"github.com/tendril-cni/tendril/webhook/report"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// reported returns the annotations of a node that are looked at.
func reported(annotations map[string]string) map[string]string {
	out := map[string]string{}
	for _, key := range report.Annotations {
		if v, has := annotations[key]; has {
			out[key] = v
		}
	}
	return out
}

// factsOf returns what nodes and device classes say.
func factsOf(nodes []*corev1.Node, classes []*resourcev1.DeviceClass) validate.Facts {
	f := validate.Facts{Resources: map[string]bool{}, Userspace: map[string]bool{}}
	reports := make([]nodeReport, 0, len(nodes))
	for _, n := range nodes {
		r := nodeReport{report.Parse(n.Annotations), n.Labels}
		reports = append(reports, r)
		for name := range n.Status.Allocatable {
			if strings.Contains(string(name), "/") {
				f.Resources[string(name)] = true
			}
		}
		for _, u := range r.Userspace {
			f.Userspace[u] = true
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
	if all, known := union(reports, func(r nodeReport) []string { return r.Plugins }); known {
		f.Plugins = slices.Sorted(maps.Keys(all))
	}
	f.Links = func(selector string) (map[string]bool, bool) {
		return union(selected(reports, selector), func(r nodeReport) []string { return r.Links })
	}
	f.Given = func(namespace string) []int { return given(reports, namespace) }
	return f
}

// nodeReport is what one node reports, with the labels by which networks select
// it.
type nodeReport struct {
	report.Node
	labels map[string]string
}

// union returns what any of the nodes reports; known is false unless all report.
func union(nodes []nodeReport, what func(nodeReport) []string) (all map[string]bool, known bool) {
	all = map[string]bool{}
	for _, n := range nodes {
		names := what(n)
		if names == nil {
			return nil, false
		}
		for _, name := range names {
			all[name] = true
		}
	}
	return all, len(nodes) > 0
}

// given returns the different numbers of networks that nodes give to pods of a
// namespace, by what those report that do.
func given(nodes []nodeReport, namespace string) []int {
	counts := map[int]bool{}
	for _, n := range nodes {
		if n.Given != nil {
			counts[n.Given.In(namespace)] = true
		}
	}
	return slices.Sorted(maps.Keys(counts))
}

// selected returns the nodes with the label "key=value" or "key", all for "".
func selected(nodes []nodeReport, selector string) []nodeReport {
	if selector == "" {
		return nodes
	}
	key, value, _ := strings.Cut(selector, "=")
	return slices.DeleteFunc(slices.Clone(nodes), func(n nodeReport) bool {
		v, has := n.labels[strings.TrimSpace(key)]
		return !has || v != strings.TrimSpace(value)
	})
}
