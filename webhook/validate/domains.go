package validate

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime/schema"

	vfv1alpha1 "github.com/tendril-cni/tendril/vf/v1alpha1"
)

// VFPolicyKind is the kind of VF policies.
var VFPolicyKind = schema.GroupKind{Group: "tendril.dev", Kind: "VFPolicy"}

// Domains returns the checks of the other domains, by the kind that each owns:
// this is where a domain's own validator is made known to admission and lint.
func Domains() map[schema.GroupKind]Check {
	return map[schema.GroupKind]Check{VFPolicyKind: checkVFPolicy}
}

// checkVFPolicy judges by the validator that the node agent uses. What depends on
// the NIC, or on pods that hold its VFs, is judged on the node.
func checkVFPolicy(old, object []byte, _ Facts) []Finding {
	found := vfPolicy(object)
	if len(old) > 0 {
		found = Ratchet(vfPolicy(old), found)
	}
	return found
}

func vfPolicy(object []byte) []Finding {
	var p vfv1alpha1.VFPolicy
	if err := json.Unmarshal(object, &p); err != nil {
		return unreadable(VFPolicy, VFPolicyKind.Kind, err)
	}
	return Refused(VFPolicy, objectName(VFPolicyKind.Kind, "", p.Name), vfv1alpha1.Validate(&p))
}
