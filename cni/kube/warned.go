package kube

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni"
)

var _ cni.Warner = (*Reporter)(nil)

// reasonUndeclared is that of requests which the network has no capability for.
const reasonUndeclared = "UndeclaredCapability"

// Warned emits a Warning event about a request that was served, but perhaps not
// as it was meant.
func (r *Reporter) Warned(pod cni.PodRef, text string) {
	r.emit(pod, corev1.EventTypeWarning, reasonUndeclared, text, "")
}
