package link

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// lacking are the fields that a PF's driver said it cannot set, by driver and
// field. A driver either has the operation or not, for as long as it is loaded,
// so the answer holds for all of its VFs; it is learnt from refusals alone, and
// nothing is ever written to find out.
var lacking sync.Map // capability -> struct{}

type capability struct{ driver, field string }

// learn notes an answer of the driver.
func learn(t Target, s Step, err error) {
	if t.Driver != "" && errors.Is(err, unix.EOPNOTSUPP) {
		lacking.Store(capability{t.Driver, s.Field}, struct{}{})
	}
}

// Check refuses, before anything is written, what the PF's driver is known not to
// have: what it refused to any VF before, and what it does not report although
// the kernel asks, because then nobody could give it back. A nil error promises
// nothing.
func Check(t Target, seen Attributes, c Change) error {
	for _, s := range Plan(seen, c) {
		if _, known := lacking.Load(capability{t.Driver, s.Field}); known {
			return Refused(t, s, unix.EOPNOTSUPP)
		}
		if _, reported := seen.field(s.Field); !reported {
			r := s.refusal(t)
			r.Allowed = "nothing: driver " + t.Driver + " does not report it, so it could not be restored; leave the field out"
			return r
		}
	}
	return nil
}

// Undo is the change that takes a VF back to before, in those of its fields that
// were written, but for the MAC: what is read of it need not be what was set (see
// Attributes.MAC), so whoever gives MACs restores them.
func Undo(before Attributes, written []string) Change {
	var u Change
	for _, field := range written {
		switch field {
		case FieldVLAN:
			u.VLAN = &before.VLAN
		case FieldRates:
			u.Rates = &before.Rates
		case FieldSpoofChk:
			u.SpoofChk = before.SpoofChk
		case FieldTrust:
			u.Trust = before.Trust
		case FieldLinkState:
			u.LinkState = &before.LinkState
		}
	}
	return u
}
