package reclaim

import (
	corev1 "k8s.io/api/core/v1"
)

// OrderAnnotation on a Node orders that its addresses are given to others. Its
// value is the Node object's uid, so that the order does not outlive what it was
// meant for.
const OrderAnnotation = "tendril.dev/reclaim-addresses"

// Gone says whether a node whose slots carry a uid is proven gone, and why. node
// is the Node object of that name, nil if there is none.
func Gone(node *corev1.Node, uid string) (reason string, gone bool) {
	switch {
	case node == nil:
		return "its Node object is deleted", true
	case uid != "" && string(node.UID) != uid:
		return "its Node object has another uid", true
	case node.Annotations[OrderAnnotation] == string(node.UID) && node.UID != "":
		return "ordered by annotation " + OrderAnnotation, true
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			return "taint " + corev1.TaintNodeOutOfService, true
		}
	}
	return "", false
}
