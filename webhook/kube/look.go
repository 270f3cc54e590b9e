package kube

import (
	"context"
	"fmt"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// Look returns the facts of a cluster as they are now, for a program that judges
// once: definitions, and as far as the user may see them nodes, device classes
// and pods. base is what the operator decided. Only definitions that cannot be
// listed are an error.
func Look(ctx context.Context, config *rest.Config, base validate.Facts) (validate.Facts, error) {
	s, err := newSources(config)
	if err != nil {
		return base, fmt.Errorf("make clients: %w", err)
	}
	all, err := s.definitions.NetworkAttachmentDefinitions(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return base, fmt.Errorf("list network attachment definitions: %w", err)
	}
	seen := &snapshot{networks: map[string]*nad.NetworkAttachmentDefinition{}, summaries: summaries{of: map[string]*validate.Summary{}}}
	for _, d := range pointers(all.Items) {
		seen.networks[d.Namespace+"/"+d.Name] = d
		seen.summaries.change(d, false)
	}
	base.Networks, base.Complete, base.Held = seen, true, s.held
	s.lookAround(ctx, &base)
	return base, nil
}

// lookAround adds what not everybody may see: a fact that is missing leads to no
// finding.
func (s *sources) lookAround(ctx context.Context, f *validate.Facts) {
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err == nil {
		var classes []*resourcev1.DeviceClass
		if list, err := s.client.ResourceV1().DeviceClasses().List(ctx, metav1.ListOptions{}); err == nil {
			classes = pointers(list.Items)
		}
		got := factsOf(pointers(nodes.Items), classes)
		f.Plugins, f.Resources, f.Userspace, f.Links, f.Given = got.Plugins, got.Resources, got.Userspace, got.Links, got.Given
		f.PodNets, f.NodeAddrs = append(f.PodNets, got.PodNets...), got.NodeAddrs
	}
	var holders map[string]map[string]string
	if pods, err := s.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}); err == nil {
		attached := attachments(pods.Items, *f)
		f.Attached = func(namespace, name string) int { return attached[namespace+"/"+name] }
		holders = holdersOf(pods.Items)
	}
	if vfs := s.lookAtVFs(ctx, nodes.Items, holders); vfs != nil {
		f.VFs = func() *validate.VFs { return vfs }
	}
}

// attachments counts the pods that run with each definition.
func attachments(pods []corev1.Pod, f validate.Facts) map[string]int {
	out := map[string]int{}
	for i := range pods {
		p := &pods[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		selections, _ := validate.Select("", p.Namespace, p.Annotations, f)
		counted := map[string]bool{}
		for _, s := range selections {
			if ref := s.Element.Ref(); !counted[ref] {
				counted[ref], out[ref] = true, out[ref]+1
			}
		}
	}
	return out
}

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// snapshot is the definitions at one time. It implements validate.Networks.
type snapshot struct {
	networks  map[string]*nad.NetworkAttachmentDefinition
	summaries summaries
}

// Network implements validate.Networks.
func (s *snapshot) Network(namespace, name string) *nad.NetworkAttachmentDefinition {
	return s.networks[namespace+"/"+name]
}

// Summaries implements validate.Networks.
func (s *snapshot) Summaries() []*validate.Summary { return s.summaries.all() }
