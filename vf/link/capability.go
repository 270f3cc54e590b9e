package link

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// lacking are the fields that a PF's driver said it cannot set, by PF, driver and
// operation. The answer holds for all VFs of the PF, and for no other PF: one driver
// serves NICs that have an operation and NICs that lack it (igb limits the rates of
// an 82576 and not those of an i350). It is learnt from refusals alone, and nothing
// is ever written to find out.
var lacking sync.Map // capability -> struct{}

type capability struct{ pf, driver, operation string }

// operation is what a driver has or lacks: a field, but for guaranteed rates, which
// are one thing more than limits, and for the protocols of VLANs.
func (s Step) operation() string {
	switch {
	case s.Field == FieldRates && s.Change.Rates.Min != 0:
		return "min_tx_rate"
	case s.Field == FieldVLAN:
		return FieldVLAN + " " + s.Change.VLAN.Proto
	}
	return s.Field
}

// learn notes an answer of the driver.
func learn(t Target, s Step, err error) {
	if t.Driver != "" && errors.Is(err, unix.EOPNOTSUPP) {
		lacking.Store(capability{t.PF, t.Driver, s.operation()}, struct{}{})
	}
}

// Check refuses, before anything is written, what the PF is known not to have: what
// its driver refused to any of its VFs before, and what it does not report although
// the kernel asks, because then nobody could give it back. A nil error promises
// nothing.
func Check(t Target, seen Attributes, c Change) error {
	for _, s := range Plan(seen, c) {
		if _, known := lacking.Load(capability{t.PF, t.Driver, s.operation()}); known {
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
