package validate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// resources judges what the pod asks of the kubelet beside what its networks
// need. A resource that is not asked for at all is no finding: injection adds
// it, or a claim brings it.
func (a *asked) resources(pod *corev1.Pod) {
	needed := map[string]int64{}
	for _, d := range a.definitions {
		if d == nil {
			continue
		}
		for _, r := range ResourcesOf(d, a.facts.ResourceKeys) {
			needed[r]++
		}
	}
	for _, r := range slices.Sorted(maps.Keys(needed)) {
		n := given(pod, corev1.ResourceName(r))
		if n != 0 && n != needed[r] {
			a.add(ResourceMismatch, Warn, fmt.Sprintf("spec.containers[].resources.limits[%s]", r), n, fmt.Sprintf("%d, as many as the networks need", needed[r]))
		}
		if a.facts.Userspace[r] {
			a.userspace(pod, r)
		}
	}
}

// given is how many of a resource the containers ask for that run at the same time;
// the larger of requests and limits counts.
func given(pod *corev1.Pod, name corev1.ResourceName) (n int64) {
	for _, c := range append(sidecars(pod), pod.Spec.Containers...) {
		limit, request := c.Resources.Limits[name], c.Resources.Requests[name]
		n += max(limit.Value(), request.Value())
	}
	return n
}

// sidecars are the init containers that stay (restartPolicy Always).
func sidecars(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

// userspace judges what a program needs that drives a device itself: pinned
// memory of its own.
func (a *asked) userspace(pod *corev1.Pod, r string) {
	for _, c := range pod.Spec.Containers {
		if _, has := c.Resources.Limits[corev1.ResourceName(r)]; !has {
			continue
		}
		huge := false
		for name, q := range c.Resources.Limits {
			huge = huge || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) && !q.IsZero()
		}
		field := fmt.Sprintf("spec.containers[%s].resources", c.Name)
		if !huge {
			a.add(UserspaceNeeds, Warn, field+".limits[hugepages-*]", "", "huge pages: the devices of "+r+" have a userspace driver")
		}
		if c.Resources.Limits.Memory().IsZero() {
			a.add(UserspaceNeeds, Warn, field+".limits[memory]", "", "memory: the devices of "+r+" have a userspace driver")
		}
	}
	if !guaranteed(pod) {
		a.add(UserspaceNeeds, Warn, "spec.containers[].resources", "not Guaranteed", "CPU and memory limits equal to the requests in every container, for exclusive CPUs")
	}
}

// guaranteed is the kubelet's rule for that class of service.
func guaranteed(pod *corev1.Pod) bool {
	for _, c := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, has := c.Resources.Limits[name]
			request, asks := c.Resources.Requests[name]
			if !has || limit.IsZero() || asks && limit.Cmp(request) != 0 {
				return false
			}
		}
	}
	return true
}
