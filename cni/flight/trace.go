package flight

import (
	"time"

	"github.com/tendril-cni/tendril/cni"
)

// Trace is what one call did. Its JSON is an interface: fields are added, and
// neither renamed nor given another meaning. Durations are in nanoseconds.
type Trace struct {
	// Call is the call's id, as in the log and in the error that the runtime got.
	Call string `json:"call"`
	// Verb is a CNI command, or cni.VerbPlug, VerbRepair or VerbRecover.
	Verb      string     `json:"verb"`
	Container string     `json:"container,omitempty"`
	IfName    string     `json:"ifName,omitempty"`
	Pod       cni.PodRef `json:"pod,omitzero"`

	Start time.Time     `json:"start"`
	Took  time.Duration `json:"tookNanos"`
	// Running marks a call that has not ended; Took is then up to now.
	Running bool `json:"running,omitempty"`
	// Error is the call's, empty for one that succeeded. It is cut at 4 KiB.
	Error string `json:"error,omitempty"`
	// Repeats is how many calls before it, since First, failed in the same way:
	// same pod, verb and error.
	Repeats int       `json:"repeats,omitempty"`
	First   time.Time `json:"first,omitzero"`
	// Steps in the order in which they ended, the last 256 of them.
	Steps []Step `json:"steps,omitempty"`
	// Netns is the pod's namespace at the moment of the failure.
	Netns *Netns `json:"netns,omitempty"`
}

// Step is one part of a call.
type Step struct {
	// Name is one of the Step constants of package cni.
	Name string `json:"name"`
	// Network, Interface and Kind say which attachment it was about; empty for a
	// step of the whole call.
	Network   string `json:"network,omitempty"`
	Interface string `json:"interface,omitempty"`
	Kind      string `json:"kind,omitempty"`
	// Start is counted from the call's.
	Start time.Duration `json:"startNanos"`
	Took  time.Duration `json:"tookNanos"`
	// Error is cut at 2 KiB.
	Error string `json:"error,omitempty"`
}

const (
	mostSteps     = 256
	mostError     = 4 << 10
	mostStepError = 2 << 10
)

// cut shortens s to most bytes.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

func text(err error, most int) string {
	if err == nil {
		return ""
	}
	return cut(err.Error(), most)
}

// size is about what t takes in memory, in bytes.
func (t *Trace) size() int {
	const fixed, step = 320, 128
	n := fixed + len(t.Call) + len(t.Container) + len(t.Error) + len(t.Pod.Name) + len(t.Pod.Namespace) + len(t.Pod.UID)
	n += cap(t.Steps) * step
	for _, s := range t.Steps {
		// The other texts are shared with the attachment's record or constants.
		n += len(s.Network) + len(s.Error)
	}
	return n + t.Netns.size()
}

// alike reports whether t failed as o did.
func (t *Trace) alike(o *Trace) bool {
	return t.Verb == o.Verb && t.Pod.Name == o.Pod.Name && t.Pod.Namespace == o.Pod.Namespace && t.Error == o.Error &&
		(t.Pod.Name != "" || t.Container == o.Container)
}

// Filter chooses traces; the zero Filter is all of them.
type Filter struct {
	// Namespace, Name and UID are the pod's, Container begins the container's id,
	// Call and Verb are as in Trace. Empty ones match everything.
	Namespace, Name, UID, Container, Call, Verb string
	// Failed leaves out calls that succeeded or still run.
	Failed bool
	// Last is how many at most, the newest; 0 is no bound.
	Last int
}

func (f Filter) matches(t *Trace) bool {
	is := func(want, has string) bool { return want == "" || want == has }
	return is(f.Namespace, t.Pod.Namespace) && is(f.Name, t.Pod.Name) && is(f.UID, t.Pod.UID) &&
		is(f.Call, t.Call) && is(f.Verb, t.Verb) &&
		len(t.Container) >= len(f.Container) && t.Container[:len(f.Container)] == f.Container &&
		(!f.Failed || t.Error != "")
}
