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
	r.emit(pod, corev1.EventTypeNormal, reasonRemoved, fmt.Sprintf("Remove %s from %s", ifName, network))
}

// NotRemoved emits a Warning event FailedRemovingInterface with the text of err.
func (r *Reporter) NotRemoved(pod cni.PodRef, err error) {
	r.emit(pod, corev1.EventTypeWarning, reasonFailedRemoval, err.Error())
}

// Missing emits a Warning event InterfaceMissing with text.
func (r *Reporter) Missing(pod cni.PodRef, text string) {
	r.emit(pod, corev1.EventTypeWarning, reasonMissing, text)
}

// NodeWarning emits a Warning event about this node, with a reason in CamelCase.
func (r *Reporter) NodeWarning(reason, message string) {
	now := metav1.Now()
	event := &corev1.Event{
		// A node is in no namespace, so its events are in the default one; its UID
		// is its name, as in the kubelet's.
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s.%x", r.node, now.UnixNano())},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: r.node, UID: types.UID(r.node)},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: component, Host: r.node},
		ReportingController: component, ReportingInstance: r.node,
	}
	select {
	case r.events <- event:
	default:
		r.log.Warn("event dropped, too many wait", "node", r.node, "reason", reason, "message", message)
	}
}
