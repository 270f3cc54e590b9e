package sweep

import (
	"fmt"
	"strings"
	"testing"
)

// Sweep is one pod to be attached and detached under a daemon that dies.
type Sweep struct {
	// Stand makes a fresh stand.
	Stand func(t *testing.T) *Stand
	// World prints what the kernel has: a line for each interface of the pod, and
	// whatever else an attach may change on the lines that are always there.
	World func(*Stand) string
	// Attachments is how many interfaces a complete ADD makes.
	Attachments int
}

// steps are all steps of the journal in ADD and DEL.
var steps = []string{"before intent", "after intent", "before attached", "after attached", "before detached", "after detached"}

// JournalSteps kills the daemon right before and right after each transaction, and
// at the further points that the networks of this pod have.
func (s Sweep) JournalSteps(t *testing.T, more ...string) {
	for _, step := range append(more, steps...) {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			s.crash(t, step, -1)
		})
	}
}

// KernelCalls kills the daemon before each call by which ADD and DEL may change
// the kernel, each stride-th of them: 1 is all. How many calls there are differs
// by a few, since the daemon looks at links until they are there or gone, and
// watches those of the host; points beyond the last are not counted as tested.
func (s Sweep) KernelCalls(t *testing.T, stride int) {
	total := s.count(t)
	t.Logf("ADD and DEL make %d kernel calls", total)
	if total < s.Attachments {
		t.Fatalf("%d kernel calls for %d interfaces: they are not seen", total, s.Attachments)
	}
	missed := 0
	for call := 1; call <= total; call += stride {
		t.Run(fmt.Sprintf("call-%d", call), func(t *testing.T) {
			if !s.crash(t, "", call) {
				missed++
			}
		})
	}
	if missed*4*stride > total {
		t.Errorf("%d points of %d were not reached", missed, total)
	}
}

// count does ADD and DEL once and returns how many kernel calls they make.
func (s Sweep) count(t *testing.T) int {
	t.Helper()
	stand := s.Stand(t)
	v := stand.Start("", 0)
	for _, command := range []string{"ADD", "DEL"} {
		if err := stand.Call(command); err != nil {
			t.Fatalf("%v\n%s", err, v.out.String())
		}
	}
	stand.Stop(v)
	return stand.calls()
}

// crash has the daemon die at one point of ADD or DEL, and looks at what its
// successor makes of it. It reports whether the point was reached: a call may be
// one more than there are this time.
func (s Sweep) crash(t *testing.T, step string, call int) bool {
	stand := s.Stand(t)
	before := s.World(stand)
	v := stand.Start(step, call)
	answer := stand.Call("ADD")
	deleting := answer == nil
	if deleting {
		answer = stand.Call("DEL") // it is DEL that dies
	}
	if answer == nil && call > 0 && stand.calls() < call {
		stand.Stop(v)
		s.Empty(stand, before)
		return false
	}
	stand.Killed(v, answer)
	v = stand.Start("", -1)
	s.afterCrash(stand, before, deleting)
	for _, command := range []string{"DEL", "DEL", "ADD", "DEL"} {
		if err := stand.Call(command); err != nil {
			t.Fatalf("%v\n%s", err, v.out.String())
		}
	}
	stand.Stop(v)
	s.Empty(stand, before)
	return true
}

// afterCrash wants the restarted daemon to have the world before the ADD in which
// it died, or all of its attachments if it died with the ADD complete: never a part
// of them. A DEL is repeated by the runtime, and from the journal: until then a
// part may be gone.
func (s Sweep) afterCrash(stand *Stand, before string, deleting bool) {
	stand.T.Helper()
	// The socket is served only when the recovery is done; CHECK waits for it.
	complete := stand.Call("CHECK") == nil
	now := s.World(stand)
	n := strings.Count(now, "\n") - strings.Count(before, "\n")
	switch {
	case complete && n != s.Attachments, n < 0, n > s.Attachments:
		stand.T.Errorf("complete is %v, and %d of %d interfaces are there:\n%s", complete, n, s.Attachments, now)
	case !complete && !deleting && now != before:
		stand.T.Errorf("nothing is attached, and yet the world is\n%s\nand was\n%s", now, before)
	}
}

// Empty wants the world as it was before any call, and nothing in the journal of
// the stopped daemon.
func (s Sweep) Empty(stand *Stand, before string) {
	stand.T.Helper()
	if got := s.World(stand); got != before {
		stand.T.Errorf("after everything the world is\n%s\nand was\n%s", got, before)
	}
	if got := stand.Held(); got != "" {
		stand.T.Errorf("the journal still holds\n%s", got)
	}
}
