package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Annotations that are read or written here.
const (
	// SelectorAnnotation of a definition is one node label, key=value or key.
	SelectorAnnotation = "k8s.v1.cni.cncf.io/nodeSelector"
	// ContainerAnnotation of a pod names the container that gets the resources;
	// without it the first one does.
	ContainerAnnotation = "tendril.dev/inject-container"
	// InjectedAnnotation of a pod records the resources that were injected, a
	// JSON object of numbers.
	InjectedAnnotation = "tendril.dev/injected"
)

// Network is one network that the pod asks for, as often as it asks.
type Network struct {
	// Ref is "namespace/name" of the definition.
	Ref string
	// Resources are the values of its resource annotations.
	Resources []string
	// Selector is its SelectorAnnotation, empty for none.
	Selector string
}

// Outcome is what is to be done to the pod.
type Outcome struct {
	// Patch is empty when nothing is.
	Patch []Operation
	// Warnings are for whoever made the pod, one line each.
	Warnings []string
	// Audit is for the API server's audit log: which resource, for which network.
	Audit map[string]string
}

// Plan decides what is added to pod, whose networks are given in the order of
// its effective annotations. claimed are resources that a ResourceClaim of the
// pod brings: they are not asked of the device plugin again. Every error is a
// refusal.Refusal without an object.
func Plan(pod *corev1.Pod, networks []Network, claimed map[string]bool, o Options) (Outcome, error) {
	p := &planner{pod: pod, options: o, out: Outcome{Audit: map[string]string{}}}
	annotations, changed := o.Effective(pod.Labels, pod.Annotations)
	p.annotations = maps.Clone(annotations)
	needed := p.needed(networks, claimed)
	if len(needed) > 0 {
		container, err := p.container(annotations)
		if err != nil {
			return Outcome{}, err
		}
		p.resources(container, needed)
		p.podnetinfo()
	}
	if err := p.selector(networks); err != nil {
		return Outcome{}, err
	}
	if changed || !maps.Equal(p.annotations, pod.Annotations) {
		p.add("/metadata/annotations", p.annotations)
	}
	return p.out, nil
}

// planner carries the patch of one pod.
type planner struct {
	pod         *corev1.Pod
	options     Options
	annotations map[string]string // as they will be
	out         Outcome
}

func (p *planner) add(path string, value any) {
	p.out.Patch = append(p.out.Patch, Operation{Op: "add", Path: path, Value: value})
}

func (p *planner) warn(format string, args ...any) {
	p.out.Warnings = append(p.out.Warnings, fmt.Sprintf(format, args...))
}

// needed counts the resources of the networks. A name without a domain cannot be
// an extended resource: such a network is served by a claim, whatever else.
func (p *planner) needed(networks []Network, claimed map[string]bool) map[string]int64 {
	out := map[string]int64{}
	var served []string
	for _, n := range networks {
		for _, r := range n.Resources {
			if claimed[r] || !strings.Contains(r, "/") {
				served = append(served, n.Ref+"="+r)
				continue
			}
			out[r]++
		}
	}
	if len(served) > 0 {
		p.out.Audit["claimed"] = strings.Join(served, ",")
	}
	for _, n := range networks {
		p.out.Audit["networks"] = strings.TrimPrefix(p.out.Audit["networks"]+","+n.Ref, ",")
	}
	return out
}

// container returns the index of the container that gets the resources.
func (p *planner) container(annotations map[string]string) (int, error) {
	name, asked := annotations[ContainerAnnotation]
	if !asked {
		if len(p.pod.Spec.Containers) == 0 {
			return 0, refusal.New("", "spec.containers", "[]", "at least one container, which gets the networks' resources")
		}
		return 0, nil
	}
	var names []string
	for i, c := range p.pod.Spec.Containers {
		if c.Name == name {
			return i, nil
		}
		names = append(names, c.Name)
	}
	return 0, refusal.New("", "metadata.annotations["+ContainerAnnotation+"]", name, "a container of the pod: "+strings.Join(names, ", "))
}

// recorded returns what an earlier pass injected into container i. A record that
// the container does not bear out is one copied from another pod.
func (p *planner) recorded(i int) map[string]int64 {
	out := map[string]int64{}
	if json.Unmarshal([]byte(p.pod.Annotations[InjectedAnnotation]), &out) != nil {
		return map[string]int64{}
	}
	r := p.pod.Spec.Containers[i].Resources
	for name, n := range out {
		limit, request := r.Limits[corev1.ResourceName(name)], r.Requests[corev1.ResourceName(name)]
		if n <= 0 || limit.Value() < n || request.Value() < n {
			delete(out, name)
		}
	}
	return out
}

// resources adds what is needed to container i and records it.
func (p *planner) resources(i int, needed map[string]int64) {
	recorded := p.recorded(i)
	base := fmt.Sprintf("/spec/containers/%d/resources/", i)
	r := p.pod.Spec.Containers[i].Resources
	var ops []Operation
	var injected []string
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		more := needed[name] - recorded[name]
		if more == 0 || recorded[name] == 0 && !p.options.Honor && p.named(name) {
			continue
		}
		if more < 0 {
			// Another webhook took a network away: what the user asked for stays.
			p.warn("resource %s: %d injected before, %d needed now", name, recorded[name], needed[name])
		}
		recorded[name] = needed[name]
		ops = append(ops, quantity(base+"requests/", name, r.Requests, more), quantity(base+"limits/", name, r.Limits, more))
		injected = append(injected, fmt.Sprintf("%s=%d", name, needed[name]))
	}
	if len(ops) == 0 {
		return
	}
	p.out.Audit["resources"] = strings.Join(injected, ",")
	if len(r.Requests) == 0 && len(r.Limits) == 0 && len(r.Claims) == 0 {
		// The parent may be absent from the text.
		p.add(strings.TrimSuffix(base, "/"), map[string]string{})
	}
	if len(r.Requests) == 0 {
		p.add(base+"requests", map[string]string{})
	}
	if len(r.Limits) == 0 {
		p.add(base+"limits", map[string]string{})
	}
	p.out.Patch = append(p.out.Patch, ops...)
	if p.annotations == nil {
		p.annotations = map[string]string{}
	}
	text, _ := json.Marshal(recorded) // numbers by name: it always encodes
	p.annotations[InjectedAnnotation] = string(text)
}

// named reports whether a regular container asks for the resource by itself.
func (p *planner) named(name string) bool {
	return slices.ContainsFunc(p.pod.Spec.Containers, func(c corev1.Container) bool {
		_, limit := c.Resources.Limits[corev1.ResourceName(name)]
		_, request := c.Resources.Requests[corev1.ResourceName(name)]
		return limit || request
	})
}

// quantity sets a resource to what the list has of it and more.
func quantity(base, name string, list corev1.ResourceList, more int64) Operation {
	q := list[corev1.ResourceName(name)]
	return Operation{Op: "add", Path: base + escape(name), Value: fmt.Sprint(q.Value() + more)}
}

// selector adds the node labels of the networks. Two networks that cannot be on
// one node are refused; over the pod's own selector the network wins, as it
// always did, with a warning.
func (p *planner) selector(networks []Network) error {
	want, by := map[string]string{}, map[string]string{}
	for _, n := range networks {
		if n.Selector == "" {
			continue
		}
		key, value, err := parseSelector(n.Selector)
		if err != nil {
			return err.In(fmt.Sprintf("NetworkAttachmentDefinition %q", n.Ref))
		}
		if other, has := want[key]; has && other != value {
			return refusal.New("", "metadata.annotations[k8s.v1.cni.cncf.io/networks]", by[key]+", "+n.Ref,
				fmt.Sprintf("networks of one node: %s wants %s=%s, %s wants %s=%s", by[key], key, other, n.Ref, key, value))
		}
		want[key], by[key] = value, n.Ref
	}
	merged := maps.Clone(p.pod.Spec.NodeSelector)
	if merged == nil {
		merged = map[string]string{}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if own, has := merged[key]; has && own != want[key] {
			p.warn("spec.nodeSelector[%s]: %q becomes %q, which network %s needs", key, own, want[key], by[key])
		}
		merged[key] = want[key]
	}
	if !maps.Equal(merged, p.pod.Spec.NodeSelector) {
		p.add("/spec/nodeSelector", merged)
	}
	return nil
}

// parseSelector reads "key=value" or "key".
func parseSelector(text string) (key, value string, err *refusal.Refusal) {
	key, value, _ = strings.Cut(text, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if key == "" || strings.Contains(value, "=") {
		return "", "", refusal.New("", "metadata.annotations["+SelectorAnnotation+"]", text, "one label, <key>=<value> or <key>")
	}
	return key, value, nil
}
