package link

import (
	"fmt"
	"strings"
)

// Fields of a step, spelled like the keys of a network configuration.
const (
	FieldVLAN      = "vlan"
	FieldMAC       = "mac"
	FieldRates     = "max_tx_rate"
	FieldSpoofChk  = "spoofchk"
	FieldTrust     = "trust"
	FieldLinkState = "link_state"
)

// Step is one write: the part of a Change that one kernel call takes.
type Step struct {
	// Field is one of the Field constants.
	Field string
	// Change has that field set and no other.
	Change Change
}

// String prints the step in the words of ip-link(8), for example
// "vlan 100 qos 3 proto 802.1q".
func (s Step) String() string {
	c := s.Change
	switch s.Field {
	case FieldVLAN:
		return fmt.Sprintf("vlan %d qos %d proto %s", c.VLAN.ID, c.VLAN.QoS, c.VLAN.Proto)
	case FieldMAC:
		return "mac " + *c.MAC
	case FieldRates:
		return fmt.Sprintf("max_tx_rate %d min_tx_rate %d", c.Rates.Max, c.Rates.Min)
	case FieldSpoofChk:
		return "spoofchk " + onOff(*c.SpoofChk)
	case FieldTrust:
		return "trust " + onOff(*c.Trust)
	case FieldLinkState:
		return "state " + *c.LinkState
	}
	return ""
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// Plan returns the writes that bring a VF from current to wanted, in the order
// that drivers need: VLAN, MAC, rates, spoof check, trust, link state. The MAC
// comes before trust because taking trust away closes the MAC on some of them.
// Values that are there already are left out, but for the MAC (see Change.MAC).
func Plan(current Attributes, wanted Change) []Step {
	var steps []Step
	add := func(field string, c Change) { steps = append(steps, Step{Field: field, Change: c}) }
	if wanted.VLAN != nil && *wanted.VLAN != current.VLAN {
		add(FieldVLAN, Change{VLAN: wanted.VLAN})
	}
	if wanted.MAC != nil {
		add(FieldMAC, Change{MAC: wanted.MAC})
	}
	if wanted.Rates != nil && *wanted.Rates != current.Rates {
		add(FieldRates, Change{Rates: wanted.Rates})
	}
	if wanted.SpoofChk != nil && !same(current.SpoofChk, *wanted.SpoofChk) {
		add(FieldSpoofChk, Change{SpoofChk: wanted.SpoofChk})
	}
	if wanted.Trust != nil && !same(current.Trust, *wanted.Trust) {
		add(FieldTrust, Change{Trust: wanted.Trust})
	}
	if wanted.LinkState != nil && *wanted.LinkState != current.LinkState {
		add(FieldLinkState, Change{LinkState: wanted.LinkState})
	}
	return steps
}

func same(reported *bool, wanted bool) bool { return reported != nil && *reported == wanted }

// Missing returns the fields of wanted that seen contradicts, as
// "vlan is 0 (wanted 100)", in Plan's order. What the driver does not report
// cannot contradict, and neither can any MAC where ZeroMAC was wanted: the VF is
// then free to announce its own at any moment.
func Missing(seen Attributes, wanted Change) []string {
	var out []string
	for _, s := range Plan(seen, wanted) {
		got, ok := seen.field(s.Field)
		if !ok || s.Field == FieldMAC && (*wanted.MAC == ZeroMAC || strings.EqualFold(seen.MAC, *wanted.MAC)) {
			continue
		}
		out = append(out, fmt.Sprintf("%s (wanted %s)", got, s))
	}
	return out
}

// field prints the current value of one field as a step would, ok false if the
// driver does not report it.
func (a Attributes) field(name string) (text string, ok bool) {
	c := Change{VLAN: &a.VLAN, MAC: &a.MAC, Rates: &a.Rates, SpoofChk: a.SpoofChk, Trust: a.Trust, LinkState: &a.LinkState}
	if name == FieldSpoofChk && a.SpoofChk == nil || name == FieldTrust && a.Trust == nil {
		return "", false
	}
	return Step{Field: name, Change: c}.String(), true
}
