package suite

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/stage"
)

// patience is for a suite whose test binary has no time-out of its own.
const patience = 25 * time.Minute

// Suite is a stage while a test plays on it.
type Suite struct {
	*stage.Stage
	// Ctx ends shortly before the test binary would be killed, so that what the
	// cluster has to say is still printed.
	Ctx context.Context
	// Before is what [stage.Stage.Worlds] said when the stage was up, or what it
	// said at the last Remember.
	Before []string
	// audited is how many requests of Tendril were looked at.
	audited int
}

// Open brings a stage up, prints on the way what it has reached, and closes it
// when the test ends. An empty Root means the repository that the test is in.
func Open(t *testing.T, o stage.Options) *Suite {
	t.Helper()
	deadline, limited := t.Deadline()
	if !limited {
		deadline = time.Now().Add(patience)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(-time.Minute))
	t.Cleanup(cancel)
	s := &Suite{Ctx: ctx}
	var err error
	if o.Root == "" {
		o.Root, err = cache.Repo()
		s.Must(t, err)
	}
	if o.Say == nil {
		o.Say = sayer()
	}
	s.Stage, err = stage.Up(ctx, o)
	s.Must(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	t.Cleanup(func() { s.Invariant10NothingDenied(t) })
	s.Remember(t)
	return s
}

// sayer prints at once, not when the test ends, each line with its second.
func sayer() func(string, ...any) {
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Must ends the test at an error.
func (s *Suite) Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Ask runs kubectl as the administrator and returns what it printed.
func (s *Suite) Ask(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.Kubectl(s.Ctx, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// Shell runs a script on node n, which ends at its first command that fails, and
// returns what it printed without the white space around it.
func (s *Suite) Shell(t *testing.T, n int, script string) string {
	t.Helper()
	out, err := s.Script(s.Ctx, n, "set -e\n"+script)
	s.Must(t, err)
	return strings.TrimSpace(out)
}

// Wait is [stage.Stage.Await], and ends the test if it never comes.
func (s *Suite) Wait(t *testing.T, what string, done func(context.Context) (seen string, ok bool, err error)) {
	t.Helper()
	s.Must(t, s.Await(s.Ctx, what, done))
}

// Create applies objects, pods and networks as a rule.
func (s *Suite) Create(t *testing.T, objects ...fmt.Stringer) {
	t.Helper()
	var texts []string
	for _, o := range objects {
		texts = append(texts, o.String())
	}
	s.Must(t, s.Apply(s.Ctx, strings.Join(texts, "\n---\n")))
}

// Start creates pods and waits until they are Ready.
func (s *Suite) Start(t *testing.T, pods ...stage.Pod) {
	t.Helper()
	var names []string
	for _, pod := range pods {
		s.Create(t, pod)
		names = append(names, pod.Name)
	}
	s.Must(t, s.PodReady(s.Ctx, names...))
}

// Remember takes the nodes as they are now for those that Gone wants again.
func (s *Suite) Remember(t *testing.T) {
	t.Helper()
	var err error
	s.Before, err = s.Worlds(s.Ctx)
	s.Must(t, err)
}

// Gone deletes pods and wants the nodes as they were before any.
func (s *Suite) Gone(t *testing.T, pods ...string) {
	t.Helper()
	s.Must(t, s.PodGone(s.Ctx, pods...))
	s.Must(t, s.AwaitWorlds(s.Ctx, s.Before))
}

// Ready waits until every daemon is ready and every VF of the stage's resource is
// offered, as after Open.
func (s *Suite) Ready(t *testing.T) {
	t.Helper()
	s.Must(t, s.Stage.Ready(s.Ctx))
}
