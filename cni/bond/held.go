package bond

import (
	"encoding/json"
	"fmt"

	"github.com/tendril-cni/tendril/cni"
)

// Held returns the bus addresses of the host's devices that a record of this kind
// has as slaves: PCI addresses in sysfs form, or names of auxiliary devices; none
// for slaves that earlier attachments of the pod bring.
func Held(r cni.Record) ([]string, error) {
	if len(r.Prior) == 0 {
		return nil, nil
	}
	var n note
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return nil, fmt.Errorf("read note of %s: %w", r.Attachment.IfName, err)
	}
	var ids []string
	for _, s := range n.Slaves {
		if s.Dev != "" {
			ids = append(ids, s.Dev)
		}
	}
	return ids, nil
}
