package ipam

import (
	"encoding/json"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// FlatFiles are the paths at which whereabouts looks for its node-wide
// configuration, in order, after a definition's own configuration_path. The first
// that exists counts; none is needed here.
var FlatFiles = []string{
	"/etc/kubernetes/cni/net.d/whereabouts.d/whereabouts.conf",
	"/etc/cni/net.d/whereabouts.d/whereabouts.conf",
	"/host/etc/cni/net.d/whereabouts.d/whereabouts.conf",
}

// MergeFlat fills what raw, an ipam object of type whereabouts, leaves out or has
// as a zero value from flat, the content of whereabouts' flat file: a bare ipam
// object. Objects are merged, lists are not; raw wins. Errors are refusals.
func MergeFlat(raw, flat json.RawMessage) (json.RawMessage, error) {
	var own, defaults map[string]any
	if err := json.Unmarshal(raw, &own); err != nil {
		return nil, decodeRefusal(raw, err)
	}
	if err := json.Unmarshal(flat, &defaults); err != nil {
		return nil, (&refusal.Refusal{Object: "whereabouts.conf", Field: "ipam", Value: string(flat[:min(len(flat), 60)]), Allowed: "a JSON object"}).Because(err)
	}
	fill(own, defaults)
	return json.Marshal(own)
}

func fill(own, defaults map[string]any) {
	for key, value := range defaults {
		inner, isObject := own[key].(map[string]any)
		theirs, both := value.(map[string]any)
		switch {
		case isObject && both:
			fill(inner, theirs)
		case zero(own[key]):
			own[key] = value
		}
	}
}

func zero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case float64:
		return v == 0
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
