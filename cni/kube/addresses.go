package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni"
)

// reasonAddress is that of events about an address that somebody else has, or may
// have.
const reasonAddress = "AddressConflict"

// Address emits a Warning event about an address of pod, "namespace/name", with
// that uid.
func (r *Reporter) Address(pod, uid, text string) {
	namespace, name, _ := strings.Cut(pod, "/")
	r.emit(cni.PodRef{Namespace: namespace, Name: name, UID: uid}, corev1.EventTypeWarning, reasonAddress, text, "")
}
