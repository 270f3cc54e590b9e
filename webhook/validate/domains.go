package validate

import "k8s.io/apimachinery/pkg/runtime/schema"

// Domains returns the checks of the other domains, by the kind that each owns:
// this is where a domain's own validator is made known to admission and lint.
func Domains() map[schema.GroupKind]Check {
	return map[schema.GroupKind]Check{VFPolicyKind: checkVFPolicy}
}
