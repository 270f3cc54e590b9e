package kube

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/client-go/tools/cache"
)

// Claimed implements webhook.Cluster: it returns those of resources that a claim
// of the pod brings. A request brings a resource when its class has that
// extended resource name or that very name, or when a selector of the request or
// of the class has the resource's name as a text: devices carry it in the
// attribute k8s.cni.cncf.io/resourceName.
func (c *Cache) Claimed(namespace string, pod *corev1.Pod, resources []string) map[string]bool {
	if c.claims == nil {
		return nil
	}
	out := map[string]bool{}
	for _, claim := range pod.Spec.ResourceClaims {
		for _, request := range c.requests(namespace, claim) {
			if request.Exactly != nil {
				c.brings(out, resources, request.Exactly.DeviceClassName, request.Exactly.Selectors)
			}
			for _, sub := range request.FirstAvailable {
				c.brings(out, resources, sub.DeviceClassName, sub.Selectors)
			}
		}
	}
	return out
}

// requests returns what a claim of a pod asks for.
func (c *Cache) requests(namespace string, claim corev1.PodResourceClaim) []resourcev1.DeviceRequest {
	if name := claim.ResourceClaimName; name != nil {
		if o := stored[resourcev1.ResourceClaim](c.claims, namespace+"/"+*name); o != nil {
			return o.Spec.Devices.Requests
		}
	}
	if name := claim.ResourceClaimTemplateName; name != nil {
		if o := stored[resourcev1.ResourceClaimTemplate](c.claimTpl, namespace+"/"+*name); o != nil {
			return o.Spec.Spec.Devices.Requests
		}
	}
	return nil
}

func (c *Cache) brings(out map[string]bool, resources []string, className string, selectors []resourcev1.DeviceSelector) {
	class := stored[resourcev1.DeviceClass](c.classes, className)
	if class == nil {
		class = &resourcev1.DeviceClass{}
	}
	for _, r := range resources {
		extended := class.Spec.ExtendedResourceName
		if r == className || extended != nil && *extended == r || named(selectors, r) || named(class.Spec.Selectors, r) {
			out[r] = true
		}
	}
}

// named reports whether a CEL expression has name as a string.
func named(selectors []resourcev1.DeviceSelector, name string) bool {
	for _, s := range selectors {
		if s.CEL != nil && (strings.Contains(s.CEL.Expression, strconv.Quote(name)) || strings.Contains(s.CEL.Expression, "'"+name+"'")) {
			return true
		}
	}
	return false
}

func stored[T any](from cache.SharedIndexInformer, key string) *T {
	o, exists, _ := from.GetStore().GetByKey(key)
	if !exists {
		return nil
	}
	t, _ := o.(*T)
	return t
}
