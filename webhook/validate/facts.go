package validate

import (
	"net/netip"
	"slices"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
)

// Annotations and keys (NPWG v1.3; v1.multus-cni.io is Multus').
const (
	NetworksAnnotation       = "k8s.v1.cni.cncf.io/networks"
	DefaultNetworkAnnotation = "v1.multus-cni.io/default-network"
	ResourceAnnotation       = "k8s.v1.cni.cncf.io/resourceName"
	PolicyForAnnotation      = "k8s.v1.cni.cncf.io/policy-for"
)

// AgentNamespace is where the reference meta-plugin is installed, and where it looks
// for what is named without namespace.
const AgentNamespace = "kube-system"

// Facts are what is known of the cluster. The zero value knows nothing: only
// rules that look at the object alone find anything then.
type Facts struct {
	// Networks finds definitions; nil when none are known.
	Networks Networks
	// Complete says that a definition which Networks does not have does not
	// exist. It is false for a handful of files.
	Complete bool
	// ResourceKeys are the annotations of a definition that name a resource,
	// ResourceAnnotation alone when nil.
	ResourceKeys []string
	// Isolation forbids definitions of other namespaces.
	Isolation *Isolation
	// DefaultInterface is the pod's interface of the default network, eth0 when
	// empty.
	DefaultInterface string
	// DefaultNamespace is where a default network is looked for that is named
	// without namespace: the node agent's, AgentNamespace unless it was told another;
	// the pod's when empty.
	DefaultNamespace string
	// Strict denies what is otherwise warned about: plugins that no node has, and
	// one network name for two networks of a namespace.
	Strict bool

	// Plugins are the CNI plugins that nodes report; nil when none does.
	Plugins []string
	// Resources are the extended resources that nodes or device classes provide;
	// nil when unknown.
	Resources map[string]bool
	// Userspace are the resources whose devices have a userspace driver.
	Userspace map[string]bool
	// Links returns the links of the nodes that selector ("key=value", empty for
	// all) matches. known is false unless all of them report theirs.
	Links func(selector string) (links map[string]bool, known bool)
	// Given returns the different numbers of networks that nodes give to pods of a
	// namespace before those that they ask for; nil, also as its answer, when that
	// is not known, and then it is taken to be none.
	Given func(namespace string) []int
	// VFs returns the VFs and their policies; nil when they are not known.
	VFs func() *VFs
	// Held returns who has addresses of a cluster-wide space within spans; nil when
	// that is not known.
	Held func(space string, spans []Span) []Held
	// PodNets and ServiceNets are the cluster's own networks, NodeAddrs the
	// nodes' addresses.
	PodNets, ServiceNets []netip.Prefix
	NodeAddrs            []netip.Addr
	// Attached counts running pods that use a definition; nil when unknown.
	Attached func(namespace, name string) int
}

// Networks finds definitions.
type Networks interface {
	// Network returns a definition, nil when it is not known.
	Network(namespace, name string) *nad.NetworkAttachmentDefinition
	// Summaries returns all definitions in brief, in any order. They are not to
	// be changed.
	Summaries() []*Summary
}

// Isolation is the namespace isolation of Multus: a pod may use definitions of
// its own namespace and of Global ones.
type Isolation struct{ Global []string }

// allows reports whether a pod of namespace may use definitions of other.
func (i *Isolation) allows(namespace, other string) bool {
	return i == nil || namespace == other || slices.Contains(i.Global, other)
}

// ResourcesOf returns the resources that annotations of a definition name, in
// the order of keys; nil keys mean ResourceAnnotation. Empty values count as
// absent.
func ResourcesOf(d *nad.NetworkAttachmentDefinition, keys []string) []string {
	if keys == nil {
		keys = []string{ResourceAnnotation}
	}
	var out []string
	for _, key := range keys {
		if v := d.Annotations[key]; v != "" {
			out = append(out, v)
		}
	}
	return out
}

func (f Facts) defaultInterface() string {
	if f.DefaultInterface == "" {
		return "eth0"
	}
	return f.DefaultInterface
}

// given is never empty.
func (f Facts) given(namespace string) []int {
	if f.Given != nil {
		if counts := f.Given(namespace); len(counts) > 0 {
			return counts
		}
	}
	return []int{0}
}

func (f Facts) network(namespace, name string) *nad.NetworkAttachmentDefinition {
	if f.Networks == nil {
		return nil
	}
	return f.Networks.Network(namespace, name)
}

func (f Facts) summaries() []*Summary {
	if f.Networks == nil {
		return nil
	}
	return f.Networks.Summaries()
}
