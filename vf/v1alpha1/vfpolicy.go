package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version of the objects, and where the API server has them.
const (
	Group   = "tendril.dev"
	Version = "v1alpha1"
)

// The resources of this package. Both are cluster-scoped.
var (
	GroupVersion  = schema.GroupVersion{Group: Group, Version: Version}
	VFPolicies    = GroupVersion.WithResource("vfpolicies")
	NodeVFStates  = GroupVersion.WithResource("nodevfstates")
	KindPolicy    = GroupVersion.WithKind("VFPolicy")
	KindNodeState = GroupVersion.WithKind("NodeVFState")
)

// NotReadyTaint is the key of the taint under which a node may register and which
// its daemon takes away when the VFs are as the policies want (effect NoSchedule).
const NotReadyTaint = Group + "/vf-not-ready"

// DefaultPrefix is put before resource names without a prefix.
const DefaultPrefix = Group

// VFPolicy says how the VFs of some NICs of some nodes shall be.
type VFPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VFPolicySpec `json:"spec"`
}

// VFPolicySpec is what a policy wants. Zero fields have the meaning that each
// says.
type VFPolicySpec struct {
	// NodeSelector are labels that a node must have, all of them; empty is every
	// node.
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Priority, 0..99, decides between policies that want the same VF: the lower
	// number wins, then the earlier name. Absent is 99.
	Priority    *int        `json:"priority,omitempty"`
	NICSelector NICSelector `json:"nicSelector"`
	// NumVFs is how many VFs of each PF are wanted and offered. Absent or 0 takes
	// those that exist.
	NumVFs int `json:"numVFs,omitempty"`
	// CreateVFs is how many are made when VFs have to be made, at least NumVFs.
	// Absent or 0 is the most that the PF can have, so that NumVFs can change later
	// without any VF being destroyed. Set it where VFs cost something, such as
	// queues or interrupts that fewer VFs would share.
	CreateVFs int `json:"createVFs,omitempty"`
	// MTU of the PF, which is only ever raised, and of VFs on a kernel driver.
	// Absent or 0 leaves both alone.
	MTU int `json:"mtu,omitempty"`
	// Autoprobe is the PF's sriov_drivers_autoprobe; absent leaves it as it is.
	Autoprobe *bool `json:"autoprobe,omitempty"`
	// Driver of VFs that no entry of VFs has: "kernel" or "vfio-pci". Absent is
	// kernel.
	Driver string `json:"driver,omitempty"`
	// ResourceName is the extended resource that offers the VFs that no entry of
	// VFs has, with or without a prefix; absent offers none of them.
	ResourceName string `json:"resourceName,omitempty"`
	// VFs are ranges of VFs that are treated in another way; no VF may be in two.
	VFs []VFRange `json:"vfs,omitempty"`
	// AllowPrimary lets the policy have PFs that carry addresses or routes of the
	// host, or have a master.
	AllowPrimary bool `json:"allowPrimary,omitempty"`
	// PFLink makes VFs unhealthy while their PF has no link.
	PFLink bool `json:"pfLink,omitempty"`
	// ExcludeTopology leaves the NUMA node out of what the kubelet is told.
	ExcludeTopology bool `json:"excludeTopology,omitempty"`
	// NeedVhostNet adds /dev/vhost-net and /dev/net/tun.
	NeedVhostNet bool `json:"needVhostNet,omitempty"`
}

// NICSelector selects PFs; one must be in every list that is not empty, and at
// least one list must not be.
type NICSelector struct {
	// Vendors and Devices are PCI ids of the PF, four hex digits.
	Vendors []string `json:"vendors,omitempty"`
	Devices []string `json:"devices,omitempty"`
	// PFNames are names or alternative names of the PF's network device, each with
	// a range of VFs or without: "eth0", "eth0#0-3,6".
	PFNames []string `json:"pfNames,omitempty"`
	// RootDevices are PCI addresses of PFs, with or without a range of VFs.
	RootDevices []string `json:"rootDevices,omitempty"`
}

// VFRange is some VFs of each PF.
type VFRange struct {
	// Range is "i,j-k,...", counted from 0, both ends included.
	Range string `json:"range"`
	// Driver is as in the spec, and absent is the spec's.
	Driver string `json:"driver,omitempty"`
	// ResourceName is as in the spec; absent is the spec's.
	ResourceName string `json:"resourceName,omitempty"`
}

// VFPolicyList is a list of policies.
type VFPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VFPolicy `json:"items"`
}

// NodeVFState is what one node, whose name it has, says about its NICs and about
// the policies that are for it. Nobody but the node's daemon writes it.
type NodeVFState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            NodeVFStateStatus `json:"status,omitempty"`
}

// ConditionReady of a NodeVFState is True when every policy for the node is
// applied. Its reason is one of vf.Reason.
const ConditionReady = "Ready"

// NodeVFStateStatus is what the daemon last saw.
type NodeVFStateStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Policies that are for this node, by name.
	Policies []PolicyState `json:"policies,omitempty"`
	// PFs with SR-IOV, by address.
	PFs []PFState `json:"pfs,omitempty"`
}

// PolicyState is how far a policy is applied on the node.
type PolicyState struct {
	Name string `json:"name"`
	// Generation of the policy that this is about.
	Generation int64 `json:"generation,omitempty"`
	Ready      bool  `json:"ready"`
	// Reason is one of vf.Reason, Message says it in a sentence.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// PFState is one PF.
type PFState struct {
	Address  string   `json:"address"`
	Name     string   `json:"name,omitempty"`
	AltNames []string `json:"altNames,omitempty"`
	Vendor   string   `json:"vendor,omitempty"`
	Device   string   `json:"device,omitempty"`
	Driver   string   `json:"driver,omitempty"`
	NUMANode int      `json:"numaNode"`
	TotalVFs int      `json:"totalVFs"`
	NumVFs   int      `json:"numVFs"`
	LinkUp   bool     `json:"linkUp"`
	// MadeByTendril is false for VFs that were there before, whose number is left
	// alone.
	MadeByTendril bool      `json:"madeByTendril"`
	VFs           []VFState `json:"vfs,omitempty"`
}

// VFState is one VF. Where it is, and whose, changes with every pod and is
// therefore not in here.
type VFState struct {
	Index    int    `json:"index"`
	Address  string `json:"address"`
	Driver   string `json:"driver,omitempty"`
	Policy   string `json:"policy,omitempty"`
	Resource string `json:"resource,omitempty"`
	// Unfit says why the VF cannot be given out; empty means that it can.
	Unfit string `json:"unfit,omitempty"`
}

// NodeVFStateList is a list of states.
type NodeVFStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeVFState `json:"items"`
}
