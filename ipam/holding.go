package ipam

import (
	"encoding/binary"
	"errors"
)

// Holding is what this node has of one cell, as its journal knows it. All masks
// but Owned are subsets of Owned.
type Holding struct {
	// Owned are the slots that the API server confirmed to be this node's.
	Owned Mask
	// Idle are those that no attachment holds.
	Idle Mask
	// Cooling are idle ones freed so recently that a stranger must not have them
	// yet; their last pod may.
	Cooling Mask
	// Suspect are those to probe before they are used.
	Suspect Mask
	// Aside are idle ones that answered a probe: not for use, to be quarantined.
	Aside Mask
	// Leaving are idle ones on the way back to everybody: never handed out again
	// until the API server said that they are this node's after all.
	Leaving Mask
	// Doubt is set when the node may have lost slots without knowing: nothing is
	// handed out until Sync.
	Doubt bool
	// Pending is set while a write of this node may be on its way to the API
	// server. Version is the resourceVersion that it was aimed at, empty for the
	// creation of the block.
	Pending bool
	Version string
	// Window is how many slots the last claim took, which says how scarce they
	// are: that many idle ones are kept, none if it is 1.
	Window uint8
}

// Available are the slots that any attachment may have now.
func (h Holding) Available() Mask { return h.forReuse() &^ h.Cooling }

// forReuse are the slots that their last pod may have now.
func (h Holding) forReuse() Mask {
	if h.Doubt {
		return 0
	}
	return h.Idle &^ h.Leaving &^ h.Aside
}

// passes says whether a slot that an attachment holds may pass on to the same pod's
// next one.
func (h Holding) passes(slot int) bool { return !h.Doubt && h.Held().Has(slot) }

// Held are the slots that attachments hold.
func (h Holding) Held() Mask { return h.Owned &^ h.Idle }

const (
	flagDoubt = 1 << iota
	flagPending
)

// encode is six masks, flags, window, version.
func (h Holding) encode() []byte {
	out := make([]byte, 0, 50+len(h.Version))
	for _, m := range []Mask{h.Owned, h.Idle, h.Cooling, h.Suspect, h.Aside, h.Leaving} {
		out = binary.BigEndian.AppendUint64(out, uint64(m))
	}
	var flags byte
	if h.Doubt {
		flags |= flagDoubt
	}
	if h.Pending {
		flags |= flagPending
	}
	return append(append(out, flags, h.Window), h.Version...)
}

func decodeHolding(data []byte) (h Holding, err error) {
	if len(data) < 50 {
		return h, errors.New("record of a cell is too short")
	}
	for i, m := range []*Mask{&h.Owned, &h.Idle, &h.Cooling, &h.Suspect, &h.Aside, &h.Leaving} {
		*m = Mask(binary.BigEndian.Uint64(data[8*i:]))
	}
	h.Doubt, h.Pending = data[48]&flagDoubt != 0, data[48]&flagPending != 0
	h.Window, h.Version = data[49], string(data[50:])
	return h, nil
}

// without is h after the slots of m are no longer this node's.
func (h Holding) without(m Mask) Holding {
	for _, p := range []*Mask{&h.Owned, &h.Idle, &h.Cooling, &h.Suspect, &h.Aside, &h.Leaving} {
		*p &^= m
	}
	return h
}
