package flight

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tendril-cni/tendril/cni"
)

// Options bound a Recorder. Zero numbers have the defaults in brackets.
type Options struct {
	// Calls (512) and Bytes (2 MiB) bound the traces of all calls.
	Calls, Bytes int
	// Failures (64) and FailureBytes (512 KiB) bound the failures that are kept
	// beside them, and the file.
	Failures, FailureBytes int
	// File keeps the failures; empty for none.
	File string
	// Look reads a namespace; nil is [Look].
	Look func(ns *os.File) *Netns
	// Ended is told of every call that ended, by the call's goroutine: it must not
	// block and must not change the trace. nil for none.
	Ended func(*Trace)
	Log   *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Calls = cmp.Or(o.Calls, 512)
	o.Bytes = cmp.Or(o.Bytes, 2<<20)
	o.Failures = cmp.Or(o.Failures, 64)
	o.FailureBytes = cmp.Or(o.FailureBytes, 512<<10)
	if o.Look == nil {
		o.Look = Look
	}
	return o
}

// Recorder keeps traces. It implements cni.Flights. Use New.
type Recorder struct {
	opts Options
	wake chan struct{}

	// mu guards what follows, not the traces of running calls.
	mu       sync.Mutex
	running  map[*flight]struct{}
	calls    ring
	failures ring
}

var _ cni.Flights = (*Recorder)(nil)

// New returns a Recorder with the failures that an earlier process left in
// o.File.
func New(o Options) *Recorder {
	o = o.withDefaults()
	r := &Recorder{
		opts: o, wake: make(chan struct{}, 1), running: map[*flight]struct{}{},
		calls: ring{most: o.Calls, bytes: o.Bytes}, failures: ring{most: o.Failures, bytes: o.FailureBytes},
	}
	for _, t := range r.load() {
		r.failures.add(t)
	}
	return r
}

// Begin implements cni.Flights.
func (r *Recorder) Begin(c cni.Call) cni.Flight {
	f := &flight{recorder: r, trace: Trace{
		Call: c.ID, Verb: c.Verb, Container: c.Container, IfName: c.IfName, Pod: c.Pod, Start: time.Now(), Running: true,
		Steps: make([]Step, 0, 24),
	}}
	r.mu.Lock()
	r.running[f] = struct{}{}
	r.mu.Unlock()
	return f
}

// Traces returns copies of the traces that f chooses, the oldest first. Calls
// that still run are among them.
func (r *Recorder) Traces(f Filter) []Trace {
	r.mu.Lock()
	out := r.ended()
	now := time.Now()
	for running := range r.running {
		if t, ok := running.now(now); ok {
			out = append(out, &t)
		}
	}
	r.mu.Unlock()
	out = slices.DeleteFunc(out, func(t *Trace) bool { return !f.matches(t) })
	slices.SortStableFunc(out, func(a, b *Trace) int { return a.Start.Compare(b.Start) })
	if f.Last > 0 && len(out) > f.Last {
		out = out[len(out)-f.Last:]
	}
	traces := make([]Trace, len(out))
	for i, t := range out {
		traces[i] = *t // an ended trace is not changed any more: its slices can be shared
	}
	return traces
}

// ended returns the traces of both rings, each once. The caller holds mu.
func (r *Recorder) ended() []*Trace {
	out := slices.Clone(r.calls.traces)
	known := make(map[*Trace]bool, len(out))
	for _, t := range out {
		known[t] = true
	}
	for _, t := range r.failures.traces {
		if !known[t] {
			out = append(out, t)
		}
	}
	return out
}

// end files a trace.
func (r *Recorder) end(f *flight) {
	t := &f.trace
	r.mu.Lock()
	delete(r.running, f)
	if t.Error != "" {
		r.fail(t)
	}
	r.calls.add(t)
	r.mu.Unlock()
	if t.Error != "" {
		r.poke()
	}
	if r.opts.Ended != nil {
		r.opts.Ended(t)
	}
}

// fail files a failure in place of one like it. The caller holds mu.
func (r *Recorder) fail(t *Trace) {
	if i := slices.IndexFunc(r.failures.traces, t.alike); i >= 0 {
		before := r.failures.traces[i]
		t.Repeats, t.First = before.Repeats+1, before.First
		if t.First.IsZero() {
			t.First = before.Start
		}
		r.failures.remove(i)
	}
	r.failures.add(t)
}

// ring is a bounded list, the oldest first.
type ring struct {
	most, bytes int
	traces      []*Trace
	held        int // bytes of traces
}

// add puts t at the end. What does not fit any more goes, t itself too when it
// alone is too large.
func (r *ring) add(t *Trace) {
	r.traces = append(r.traces, t)
	r.held += t.size()
	for len(r.traces) > r.most || r.held > r.bytes {
		r.remove(0)
	}
}

func (r *ring) remove(i int) {
	r.held -= r.traces[i].size()
	if i > 0 {
		r.traces = slices.Delete(r.traces, i, i+1)
		return
	}
	// append moves the rest to a new array once in a while.
	r.traces[0] = nil
	r.traces = r.traces[1:]
}

// flight is one call that runs.
type flight struct {
	recorder *Recorder
	// mu guards trace until it has ended: its goroutine writes, Traces reads.
	mu    sync.Mutex
	trace Trace
}

// Step implements cni.Flight.
func (f *flight) Step(name string, a *cni.Attachment, start time.Time, err error) {
	s := Step{Name: name, Start: start.Sub(f.trace.Start), Took: time.Since(start), Error: text(err, mostStepError)}
	if a != nil {
		s.Network, s.Interface, s.Kind = a.Network, a.IfName, a.Kind
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.trace.Steps) == mostSteps {
		f.trace.Steps = append(f.trace.Steps[:0], f.trace.Steps[1:]...)
	}
	f.trace.Steps = append(f.trace.Steps, s)
}

// Failed implements cni.Flight.
func (f *flight) Failed(ns *os.File) {
	if ns == nil || f.trace.Netns != nil { // read by the goroutine that writes it
		return
	}
	seen := f.recorder.opts.Look(ns)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace.Netns = seen
}

// End implements cni.Flight.
func (f *flight) End(pod cni.PodRef, err error) {
	f.mu.Lock()
	if pod.Name != "" {
		f.trace.Pod = pod
	}
	f.trace.Took = time.Since(f.trace.Start)
	f.trace.Running, f.trace.Error = false, text(err, mostError)
	f.mu.Unlock()
	f.recorder.end(f)
}

// now copies the trace of a call that runs; false when it has just ended.
func (f *flight) now(at time.Time) (Trace, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.trace
	t.Took, t.Steps = at.Sub(t.Start), slices.Clone(t.Steps)
	return t, t.Running
}

// Run keeps the file up to date until ctx ends, and returns nil. It may be called
// once.
func (r *Recorder) Run(ctx context.Context) error { return r.keep(ctx) }
