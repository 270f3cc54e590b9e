package v1alpha1

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// AddToScheme makes clients that work by scheme know the objects of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &VFPolicy{}, &VFPolicyList{}, &NodeVFState{}, &NodeVFStateList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// DeepCopy returns a copy that shares nothing with p.
func (p *VFPolicy) DeepCopy() *VFPolicy {
	c := *p
	p.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	s := &c.Spec
	s.NodeSelector = maps.Clone(s.NodeSelector)
	s.Priority, s.Autoprobe = copied(s.Priority), copied(s.Autoprobe)
	n := &s.NICSelector
	n.Vendors, n.Devices = slices.Clone(n.Vendors), slices.Clone(n.Devices)
	n.PFNames, n.RootDevices = slices.Clone(n.PFNames), slices.Clone(n.RootDevices)
	s.VFs = slices.Clone(s.VFs)
	return &c
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// DeepCopyObject implements runtime.Object.
func (p *VFPolicy) DeepCopyObject() runtime.Object { return p.DeepCopy() }

// DeepCopyObject implements runtime.Object.
func (l *VFPolicyList) DeepCopyObject() runtime.Object {
	c := *l
	l.ListMeta.DeepCopyInto(&c.ListMeta)
	c.Items = nil
	for i := range l.Items {
		c.Items = append(c.Items, *l.Items[i].DeepCopy())
	}
	return &c
}

// DeepCopy returns a copy that shares nothing with n.
func (n *NodeVFState) DeepCopy() *NodeVFState {
	c := *n
	n.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	s := &c.Status
	s.Conditions, s.Policies, s.PFs = slices.Clone(s.Conditions), slices.Clone(s.Policies), slices.Clone(s.PFs)
	for i := range s.PFs {
		s.PFs[i].AltNames, s.PFs[i].VFs = slices.Clone(s.PFs[i].AltNames), slices.Clone(s.PFs[i].VFs)
	}
	return &c
}

// DeepCopyObject implements runtime.Object.
func (n *NodeVFState) DeepCopyObject() runtime.Object { return n.DeepCopy() }

// DeepCopyObject implements runtime.Object.
func (l *NodeVFStateList) DeepCopyObject() runtime.Object {
	c := *l
	l.ListMeta.DeepCopyInto(&c.ListMeta)
	c.Items = nil
	for i := range l.Items {
		c.Items = append(c.Items, *l.Items[i].DeepCopy())
	}
	return &c
}
