package hostdevice

import (
	"encoding/json"
	"fmt"

	"github.com/tendril-cni/tendril/cni"
)

// Held returns the bus address of the device that a record of this kind has: a PCI
// address in sysfs form, or the name of an auxiliary device; nothing for a device
// that is on neither bus, and before Prior. The network may name the device in
// any way: what the journal notes of it counts.
func Held(r cni.Record) ([]string, error) {
	n, err := recorded(r)
	if err != nil {
		return nil, err
	}
	switch {
	case n.Device.Dev != "":
		return []string{n.Device.Dev}, nil
	case n.PCI != "":
		return []string{n.PCI}, nil
	}
	return nil, nil
}

// recorded is the note of a record, empty before Prior.
func recorded(r cni.Record) (note, error) {
	var n note
	if len(r.Prior) == 0 {
		return n, nil
	}
	if err := json.Unmarshal(r.Prior, &n); err != nil {
		return n, fmt.Errorf("read note of %s: %w", r.Attachment.IfName, err)
	}
	return n, nil
}
