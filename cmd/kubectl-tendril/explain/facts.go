package explain

import (
	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/webhook/report"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// Facts are all that is known about one pod.
type Facts struct {
	Pod *corev1.Pod
	// Events are the pod's, in any order; Unheard says why they are not known.
	Events  []corev1.Event
	Unheard string
	// Known are the definitions and what else the webhook would judge by. Without
	// Networks, definitions are not known, and Unread says why.
	Known  validate.Facts
	Unread string
	// Nodes are those of the cluster, Asked what pods on each ask for, by node and
	// resource; nil when it is not known.
	Nodes []corev1.Node
	Asked map[string]map[string]Demand
	// Webhook is the injection's.
	Webhook Webhook
	// Daemon is the daemon of the pod's node.
	Daemon Daemon
}

// Demand is what pods on one node ask of one resource.
type Demand struct {
	Count int64
	// Pods are "namespace/name".
	Pods []string
}

// Webhook is what is known of the admission that injects.
type Webhook struct {
	// Unread says why nothing is known.
	Unread string
	// Installed says that the API server asks it, Ready how many replicas are.
	Installed bool
	Ready     int
	// Skips says why it is not asked about this pod, "" if it is.
	Skips string
}

// Daemon is what is known of the daemon of the pod's node.
type Daemon struct {
	// Name of its pod, empty when the node has none; Unread says why that is not
	// known.
	Name, Unread string
	// Trouble says why it is not ready, "" if it is.
	Trouble string
	// Unasked says why it was not asked; the answers are nil then.
	Unasked     string
	Attachments []inspect.Attachment
	// Traces are the pod's last calls, the oldest first.
	Traces    []inspect.Trace
	Inventory *inspect.Inventory
	Host      *inspect.Host
	Networks  *inspect.Networks
}

// wish is one network that the pod asks for.
type wish struct {
	validate.Selection
	// ref is "namespace/name" of the definition, ifName the interface to be.
	ref, ifName string
	// definition and network are nil where they are not known.
	definition *nad.NetworkAttachmentDefinition
	network    *netconf.Network
	resource   string
}

// kind is the type of the network's plugin.
func (w wish) kind() string {
	if w.network == nil || len(w.network.Plugins) == 0 {
		return "?"
	}
	return w.network.Plugins[0].Type
}

// ipam is the type of its address management, empty for none.
func (w wish) ipam() string {
	if w.network == nil || len(w.network.Plugins) == 0 {
		return ""
	}
	_, kind, _ := netconf.ParseIPAM(w.network.Plugins[0])
	return kind
}

// attachment returns what the node's journal has of an interface.
func (f *Facts) attachment(ifName string) *inspect.Attachment {
	for i, a := range f.Daemon.Attachments {
		if a.Namespace == f.Pod.Namespace && a.Pod == f.Pod.Name && f.itsOwn(a.UID) && a.Interface == ifName {
			return &f.Daemon.Attachments[i]
		}
	}
	return nil
}

// last returns the last ADD of the pod that has ended, nil for none.
func (f *Facts) last() *inspect.Trace {
	for i := len(f.Daemon.Traces) - 1; i >= 0; i-- {
		if t := &f.Daemon.Traces[i]; t.Verb == "ADD" && !t.Running && f.itsOwn(t.Pod.UID) {
			return t
		}
	}
	return nil
}

// hashAnnotation of a static pod's mirror has the uid by which the kubelet, and so
// the runtime, knows the pod.
const hashAnnotation = "kubernetes.io/config.hash"

// itsOwn reports whether what the node has under the pod's name is this pod's: one
// that had the name before may not be detached yet. Not every runtime tells uids.
func (f *Facts) itsOwn(uid string) bool {
	return uid == "" || uid == string(f.Pod.UID) || uid == f.Pod.Annotations[hashAnnotation]
}

// given is how many networks the pod has before those that it asks for, as far as
// that is known: by its node's word, or else by all nodes' if they agree.
func (f *Facts) given() int {
	for _, n := range f.Nodes {
		if g := report.Parse(n.Annotations).Given; g != nil && n.Name == f.Pod.Spec.NodeName {
			return g.In(f.Pod.Namespace)
		}
	}
	if f.Known.Given != nil && f.Pod.Spec.NodeName == "" {
		if counts := f.Known.Given(f.Pod.Namespace); len(counts) == 1 {
			return counts[0]
		}
	}
	return 0
}

// statusOf returns what the pod's network-status says of an interface.
func statusOf(all []cni.NetworkStatus, ifName string) *cni.NetworkStatus {
	for i := range all {
		if all[i].Interface == ifName {
			return &all[i]
		}
	}
	return nil
}
