package bond

import "github.com/tendril-cni/tendril/cni"

// Held returns the bus addresses of the host's devices that a record of this kind
// has as slaves: PCI addresses in sysfs form, or names of auxiliary devices; none
// for slaves that earlier attachments of the pod bring.
func Held(r cni.Record) ([]string, error) {
	n, err := recorded(r)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range n.Slaves {
		if s.Dev != "" {
			ids = append(ids, s.Dev)
		}
	}
	return ids, nil
}
