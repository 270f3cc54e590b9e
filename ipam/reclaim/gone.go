package reclaim

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Gone says whether a node whose slots carry a uid is proven gone, and why. node
// is the Node object of that name, nil if there is none.
func Gone(node *corev1.Node, uid string) (reason string, gone bool) {
	switch {
	case node == nil:
		return "its Node object is deleted", true
	case uid != "" && string(node.UID) != uid:
		return "its Node object has another uid", true
	case node.Annotations[v1alpha1.OrderAnnotation] == string(node.UID) && node.UID != "":
		return "ordered by annotation " + v1alpha1.OrderAnnotation, true
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			return "taint " + corev1.TaintNodeOutOfService, true
		}
	}
	return "", false
}
