package cni

import (
	"context"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// Pod is what the engine needs to know of a pod object.
type Pod struct {
	PodRef
	Annotations map[string]string
	// Ordinal says that a StatefulSet owns the pod.
	Ordinal bool
}

// Definition is a NetworkAttachmentDefinition as the API server has it.
type Definition struct {
	Namespace, Name string
	// Resource is the value of the annotation k8s.v1.cni.cncf.io/resourceName,
	// the extended resource whose devices this network uses; empty for none.
	Resource string
	// Config is spec.config, unparsed.
	Config string
}

// Ref returns "namespace/name".
func (d Definition) Ref() string { return d.Namespace + "/" + d.Name }

// Cluster is the node's view of the API server: a local cache, never a request
// on the hot path.
type Cluster interface {
	// Pod returns the pod with that UID, waiting until the cache has it or ctx
	// ends. An empty uid matches any.
	Pod(ctx context.Context, namespace, name, uid string) (Pod, error)
	// Definition returns a NetworkAttachmentDefinition, waiting a moment for one
	// that was created just now. With a ctx that has ended it answers at once from
	// what is known.
	Definition(ctx context.Context, namespace, name string) (Definition, error)
}

// Reporter tells people what became of a pod's networks. Its methods return at
// once; the work is done off the critical path.
type Reporter interface {
	// Publish writes the network-status annotation of pod.
	Publish(pod PodRef, status []NetworkStatus)
	// Added emits a Normal event AddedInterface for the interfaces that one call
	// made.
	Added(pod PodRef, made []Made)
	// Refused emits a Warning event with the text of err.
	Refused(pod PodRef, err error)
}

// Made is an interface that a pod has got, with what the kernel shows of it.
type Made struct {
	Network, IfName string
	Addresses       []Address
}

// Warner is what a Reporter may also be.
type Warner interface {
	// Warned emits a Warning event about a request that was served, but perhaps
	// not as it was meant.
	Warned(pod PodRef, text string)
}

// NetworkStatus is one entry of k8s.v1.cni.cncf.io/network-status (NPWG v1.3,
// field order and omissions as its consumers know them from Multus).
type NetworkStatus struct {
	Name      string      `json:"name"`
	Interface string      `json:"interface,omitempty"`
	IPs       []string    `json:"ips,omitempty"`
	MAC       string      `json:"mac,omitempty"`
	MTU       int         `json:"mtu,omitempty"`
	Default   bool        `json:"default,omitempty"`
	DNS       netconf.DNS `json:"dns"`
	// DeviceInfo is the device-info spec 1.1.0 object.
	DeviceInfo any      `json:"device-info,omitempty"`
	Gateway    []string `json:"gateway,omitempty"`
}
