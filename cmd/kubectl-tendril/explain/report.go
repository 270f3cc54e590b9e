package explain

import (
	"fmt"
	"io"
	"strings"
)

// State is how one link of the chain is.
type State string

// The states.
const (
	OK      State = "ok"
	Fail    State = "fail"
	Wait    State = "wait"    // not done yet, and nothing says that it will not be
	Unknown State = "unknown" // it could not be looked at
	None    State = "-"       // the pod does not need it
)

// Link is one link of the chain.
type Link struct {
	Name  string   `json:"name"`
	State State    `json:"state"`
	Says  []string `json:"says,omitempty"`
	// Do is what to do about it, if it is not well.
	Do []string `json:"do,omitempty"`
	// cause is the first thing that is wrong, or waited for.
	cause string
}

func (l *Link) say(format string, args ...any) { l.Says = append(l.Says, fmt.Sprintf(format, args...)) }

// fail makes the link one that fails. do says what to do about it.
func (l *Link) fail(do string, format string, args ...any) {
	if l.State != Fail {
		l.cause = fmt.Sprintf(format, args...)
	}
	l.State = Fail
	l.say(format, args...)
	l.advise(do)
}

func (l *Link) wait(format string, args ...any) {
	if l.State != Fail && l.State != Wait {
		l.State, l.cause = Wait, fmt.Sprintf(format, args...)
	}
	l.say(format, args...)
}

// unknown makes the link one that could not be looked at.
func (l *Link) unknown(format string, args ...any) {
	l.State, l.cause = Unknown, fmt.Sprintf(format, args...)
	l.say(format, args...)
}

// none makes the link one that the pod does not need, or needs no more.
func (l *Link) none(format string, args ...any) {
	l.State = None
	l.say(format, args...)
}

func (l *Link) advise(do string) {
	for _, have := range l.Do {
		if have == do {
			return
		}
	}
	if do != "" {
		l.Do = append(l.Do, do)
	}
}

// Report is the whole chain of one pod.
type Report struct {
	Pod  string `json:"pod"`
	Node string `json:"node,omitempty"`
	// State is that of the pod's networks together, Verdict says it in a sentence.
	State   State    `json:"state"`
	Verdict string   `json:"verdict"`
	Do      []string `json:"do,omitempty"`
	Chain   []Link   `json:"chain"`
}

// judge sums the chain up. ended is how the pod ended, "" while it has not.
func (r *Report) judge(networks int, ended string) {
	for _, state := range []State{Fail, Wait, Unknown} {
		if l := r.first(state); l != nil {
			r.State, r.Do = state, l.Do
			r.Verdict = fmt.Sprintf("%s at %s: %s", stops[state], l.Name, l.cause)
			return
		}
	}
	r.State = OK
	switch {
	case networks == 0:
		r.Verdict = "it asks for no networks"
	case ended != "":
		r.Verdict = fmt.Sprintf("it has ended (%s) and has no networks any more", ended)
	case networks == 1:
		r.Verdict = "its network is attached"
	default:
		r.Verdict = fmt.Sprintf("all its %d networks are attached", networks)
	}
}

// first returns the first link in a state. Devices and addresses come with the
// attachment: that they are waited for says less than that it is.
func (r *Report) first(state State) *Link {
	var out *Link
	for i := range r.Chain {
		l := &r.Chain[i]
		if l.State != state {
			continue
		}
		if out == nil || state == Wait && l.Name == linkAttachments {
			out = l
		}
		if state != Wait || l.Name != linkDevices && l.Name != linkAddresses {
			break
		}
	}
	return out
}

// The links that others speak of.
const (
	linkDefinitions = "definitions"
	linkDaemon      = "daemon"
	linkDevices     = "devices"
	linkAddresses   = "addresses"
	linkAttachments = "attachments"
)

var stops = map[State]string{Fail: "stuck", Wait: "waiting", Unknown: "not known"}

// Print writes the report for a person.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	where := ""
	if r.Node != "" {
		where = " on " + r.Node
	}
	fmt.Fprintf(&b, "Pod %s%s: %s\n\n", r.Pod, where, r.Verdict)
	for _, l := range r.Chain {
		for i, line := range l.Says {
			mark, name := string(l.State), l.Name
			if i > 0 {
				mark, name = "", ""
			}
			fmt.Fprintf(&b, "%-8s%-14s%s\n", mark, name, line)
		}
	}
	if len(r.Do) > 0 {
		b.WriteString("\nWhat to do:\n")
	}
	for _, do := range r.Do {
		fmt.Fprintf(&b, "  * %s\n", do)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
