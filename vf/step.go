package vf

import (
	"errors"
	"fmt"
	"io"
)

// Op is what a Step does.
type Op string

// The operations.
const (
	// Up sets the PF's network device up.
	Up Op = "up"
	// RaiseMTU sets the PF's MTU to Value.
	RaiseMTU Op = "pf mtu"
	// Autoprobe writes Value (0 or 1) to sriov_drivers_autoprobe.
	Autoprobe Op = "autoprobe"
	// Remove destroys all VFs of the PF, of which there are Value; if there is
	// another number by then, it does nothing and fails.
	Remove Op = "remove"
	// Create makes Value VFs; there are none before.
	Create Op = "create"
	// Bind gives VF Index the driver Driver.
	Bind Op = "bind"
	// SetMTU sets the MTU of VF Index's network device to Value.
	SetMTU Op = "vf mtu"
	// Keep does nothing: Blocked says why the PF stays as it is.
	Keep Op = "keep"
)

// ErrInUse is in the chain of what blocks a step for as long as a pod, or the
// host, uses a VF. Everything else that blocks waits for a person.
var ErrInUse = errors.New("in use")

// Step is one change of one PF or VF. Steps of one PF are taken in order, but
// those on different VFs (Index) that follow each other may be taken at once;
// steps of different PFs do not depend on each other.
type Step struct {
	PF Addr
	// Name of the PF's network device, for people and for netlink.
	Name string
	Op   Op
	// Index is the VF, -1 for steps on the PF.
	Index  int
	Value  int
	Driver string
	// Policy that wants it; empty for one that puts back what a former policy left.
	Policy string
	// Blocked is nil for a step that can be taken, and otherwise says why not. It
	// is a *refusal.Refusal.
	Blocked error
}

// Waits reports whether the step is held up by somebody who uses a VF, and will
// be taken when that ends.
func (s Step) Waits() bool { return errors.Is(s.Blocked, ErrInUse) }

// String prints the step in one line, without policy and cause.
func (s Step) String() string {
	at := fmt.Sprintf("PF %s", s.PF)
	if s.Name != "" {
		at = fmt.Sprintf("PF %s (%s)", s.Name, s.PF)
	}
	switch s.Op {
	case Up:
		return at + ": set up"
	case RaiseMTU:
		return fmt.Sprintf("%s: raise MTU to %d", at, s.Value)
	case Autoprobe:
		return fmt.Sprintf("%s: set sriov_drivers_autoprobe to %d", at, s.Value)
	case Remove:
		return at + ": remove all VFs"
	case Create:
		return fmt.Sprintf("%s: create %d VFs", at, s.Value)
	case Bind:
		return fmt.Sprintf("%s VF %d: bind driver %s", at, s.Index, s.Driver)
	case SetMTU:
		return fmt.Sprintf("%s VF %d: set MTU to %d", at, s.Index, s.Value)
	}
	return at + ": leave as it is"
}

// Print writes the steps one a line, each with its policy, and with what it waits
// for or why it is refused. Without steps it says so.
func Print(w io.Writer, steps []Step) error {
	if len(steps) == 0 {
		_, err := fmt.Fprintln(w, "nothing to do")
		return err
	}
	for _, s := range steps {
		line := s.String()
		if s.Policy != "" {
			line += fmt.Sprintf(" [policy %s]", s.Policy)
		}
		switch {
		case s.Waits():
			line += "; waits: " + s.Blocked.Error()
		case s.Blocked != nil:
			line += "; refused: " + s.Blocked.Error()
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
