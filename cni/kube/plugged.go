package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tendril-cni/tendril/cni"
)

// Reasons of events about pods that run, as those of the
// multus-dynamic-networks-controller, and one of Tendril's own.
const (
	reasonRemoved       = "RemovedInterface"
	reasonFailedRemoval = "FailedRemovingInterface"
	reasonMissing       = "InterfaceMissing"
)

var _ cni.Plugged = (*Reporter)(nil)

// Removed emits a Normal event RemovedInterface.
func (r *Reporter) Removed(pod cni.PodRef, network, ifName string) {
	r.emit(pod, corev1.EventTypeNormal, reasonRemoved, fmt.Sprintf("Remove %s from %s", ifName, network), "")
}

// NotRemoved emits a Warning event FailedRemovingInterface with the text of err.
func (r *Reporter) NotRemoved(pod cni.PodRef, err error) {
	r.emit(pod, corev1.EventTypeWarning, reasonFailedRemoval, err.Error(), "")
}

// Missing emits a Warning event InterfaceMissing with text.
func (r *Reporter) Missing(pod cni.PodRef, text string) {
	r.emit(pod, corev1.EventTypeWarning, reasonMissing, text, "")
}

// NodeWarning emits a Warning event about this node, with a reason in CamelCase.
func (r *Reporter) NodeWarning(reason, message string) {
	// A node is in no namespace, so its events are in the default one; its UID is its
	// name, as in the kubelet's.
	event := r.event(corev1.EventTypeWarning, reason, message, corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: r.node, UID: types.UID(r.node)})
	event.Namespace = metav1.NamespaceDefault
	r.send(event)
}
