package vf

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// State is what one node has to say about its policies. It is a value: whoever
// gets one may keep it, and nobody may change it.
type State struct {
	Snapshot *Snapshot
	// Policies are those that the rest was made for.
	Policies []Policy
	// Assignments are what the policies want of which VF.
	Assignments []Assignment
	// Made is as in Observed.
	Made map[Addr]bool
	// Steps are left to be taken, those that are blocked among them.
	Steps []Step
	// Failures are the last errors of PFs whose steps failed. They are tried again.
	Failures map[Addr]error
	// Unfit are the VFs that must not be given out now, and why.
	Unfit map[Addr]string
}

// Reason is why a policy, or a node, is or is not as wanted: one word for
// programs.
type Reason string

// The reasons, the more urgent ones first.
const (
	// Failed: a step was tried and did not succeed; it is tried again.
	Failed Reason = "Failed"
	// Applying: steps are being taken.
	Applying Reason = "Applying"
	// Refused: something of the policy cannot be; a person has to change it.
	Refused Reason = "Refused"
	// InUse: a pod, or the host, uses a VF that would have to change; it is done
	// when that ends.
	InUse Reason = "InUse"
	// Applied: all is as wanted.
	Applied Reason = "Applied"
	// NoNIC: the policy is for this node, and selects none of its NICs.
	NoNIC Reason = "NoNIC"
)

// Verdict is a Reason and what it is about, in a sentence.
type Verdict struct {
	Reason  Reason
	Message string
}

// Ready reports whether nothing is left to do that could be done.
func (v Verdict) Ready() bool { return v.Reason == Applied || v.Reason == NoNIC }

// Settled reports whether every step that could be taken was taken, and none
// failed. Steps that wait or are refused do not count: a node must not stay out
// of service because of them.
func (s State) Settled() bool {
	return len(s.Failures) == 0 && !slices.ContainsFunc(s.Steps, func(s Step) bool { return s.Blocked == nil })
}

// Verdict is about all policies together.
func (s State) Verdict() Verdict { return s.verdict(func(Step) bool { return true }, s.Failures) }

// Of is the verdict about one policy. Of one that the state was not made for, be it
// new or changed, nothing is known yet.
func (s State) Of(q Policy) Verdict {
	if !slices.ContainsFunc(s.Policies, func(p Policy) bool { return reflect.DeepEqual(p, q) }) {
		return Verdict{Applying, "the policy has not been looked at yet"}
	}
	mine := map[Addr]bool{}
	for _, p := range s.Snapshot.PFs {
		mine[p.Addr] = q.Selects(p)
	}
	failures := map[Addr]error{}
	for a, err := range s.Failures {
		if mine[a] {
			failures[a] = err
		}
	}
	v := s.verdict(func(st Step) bool { return st.Policy == q.Name }, failures)
	if v.Reason == Applied && !slices.ContainsFunc(s.Snapshot.PFs, q.Selects) {
		return Verdict{NoNIC, "no PF of this node matches the policy's nicSelector"}
	}
	if v.Reason == Applied {
		v.Message = s.tally(q)
	}
	return v
}

// tally says what a policy has got.
func (s State) tally(q Policy) string {
	vfs, unfit := 0, 0
	at := places(s.Snapshot)
	for _, a := range s.Assignments {
		if v, ok := at[place{a.PF, a.Index}]; ok && a.Policy == q.Name {
			vfs++
			if s.Unfit[v.Addr] != "" {
				unfit++
			}
		}
	}
	if unfit > 0 {
		return fmt.Sprintf("%d VFs, %d of them cannot be given out now", vfs, unfit)
	}
	return fmt.Sprintf("%d VFs", vfs)
}

func (s State) verdict(mine func(Step) bool, failures map[Addr]error) Verdict {
	if len(failures) > 0 {
		var texts []string
		for _, err := range failures {
			texts = append(texts, err.Error())
		}
		slices.Sort(texts)
		return Verdict{Failed, strings.Join(texts, "; ")}
	}
	byReason := map[Reason][]string{}
	for _, st := range s.Steps {
		switch {
		case !mine(st):
		case st.Blocked == nil:
			byReason[Applying] = append(byReason[Applying], st.String())
		case st.Waits():
			byReason[InUse] = append(byReason[InUse], st.Blocked.Error())
		default:
			byReason[Refused] = append(byReason[Refused], st.Blocked.Error())
		}
	}
	for _, r := range []Reason{Applying, Refused, InUse} {
		if texts := byReason[r]; len(texts) > 0 {
			return Verdict{r, brief(texts)}
		}
	}
	return Verdict{Applied, "all policies are applied"}
}

// brief keeps a message readable when a hundred VFs have the same to say.
func brief(texts []string) string {
	const most = 3
	if n := len(texts) - most; n > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(texts[:most], "; "), n)
	}
	return strings.Join(texts, "; ")
}

// Label is the PF's name, or its address where it has none, for messages.
func (p PF) Label() string { return cmp.Or(p.Netdev, p.Addr.String()) }
