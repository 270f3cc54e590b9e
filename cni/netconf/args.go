package netconf

import "strings"

// Args splits CNI_ARGS ("K=V;K=V", specification section "Parameters") into its
// pairs. A pair without "=" has an empty value, one without a key is left out,
// and of a key that is there twice the last one counts.
func Args(text string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ";") {
		if k, v, _ := strings.Cut(pair, "="); k != "" {
			out[k] = v
		}
	}
	return out
}
