package cache

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// interval is how often a running build says where it is: often enough that a
// person does not wonder, seldom enough that a log stays readable.
const interval = 5 * time.Second

// progress is one running build.
type progress struct {
	what    string
	started time.Time
	stop    chan struct{}
	stopped chan struct{}

	mu     sync.Mutex // guards status
	status string
}

type progressKey struct{}

// Report tells a person how far the build behind ctx is, for example
// "120 of 340 MB". It is printed at the next tick, not at once, so it may be
// called in a tight loop. Outside a build it does nothing.
func Report(ctx context.Context, format string, args ...any) {
	p, ok := ctx.Value(progressKey{}).(*progress)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = fmt.Sprintf(format, args...)
}

// begin announces a build and prints its status until end is called.
func begin(ctx context.Context, what string) (context.Context, *progress) {
	p := &progress{what: what, started: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	say("%s: building (kept for next time)", what)
	go p.tick()
	return context.WithValue(ctx, progressKey{}, p), p
}

func (p *progress) tick() {
	defer close(p.stopped)
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-t.C:
			p.mu.Lock()
			status := p.status
			p.mu.Unlock()
			say("%s: %s (%s)", p.what, orElse(status, "building"), since(p.started))
		}
	}
}

func (p *progress) end(err error) {
	close(p.stop)
	<-p.stopped
	if err == nil {
		say("%s: done (%s)", p.what, since(p.started))
	}
}

// say prints one line for a person; the standard output belongs to the programs
// that are run.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
