package kube

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni"
)

// reasonAddress is that of events about an address that somebody else has, or may
// have.
const reasonAddress = "AddressConflict"

var _ cni.AddressReporter = (*Reporter)(nil)

// Address emits a Warning event about an address that pod has or was to have.
func (r *Reporter) Address(pod cni.PodRef, text string) {
	r.emit(pod, corev1.EventTypeWarning, reasonAddress, text, "")
}
