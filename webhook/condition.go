package webhook

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// OptInLabel asks for injection whatever the annotations say.
const OptInLabel = "tendril.dev/inject"

// MatchCondition returns the CEL expression (matchConditions of a webhook,
// admissionregistration.k8s.io/v1) that is true for pods which inject may
// change: those with a networks annotation, the opt-in label, or one of the
// labels that the operator injects by. Others never reach the webhook, so its
// absence cannot hold them up.
func MatchCondition(labels []string) string {
	annotated := "has(object.metadata.annotations) && (" +
		strconv.Quote(validate.NetworksAnnotation) + " in object.metadata.annotations || " +
		strconv.Quote(validate.DefaultNetworkAnnotation) + " in object.metadata.annotations)"
	labels = slices.Compact(slices.Sorted(slices.Values(append([]string{OptInLabel}, labels...))))
	for i, l := range labels {
		labels[i] = strconv.Quote(l) + " in object.metadata.labels"
	}
	return annotated + " || has(object.metadata.labels) && (" + strings.Join(labels, " || ") + ")"
}
