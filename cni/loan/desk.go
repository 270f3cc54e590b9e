package loan

import (
	"context"
	"fmt"
	"time"

	"github.com/tendril-cni/tendril/cni"
)

// Work is what is done with a borrowed runner. ctx ends when the lender's time is
// up or the borrower gives up.
type Work func(ctx context.Context, run cni.Runner) error

// linger is how long a lender that has served a borrower waits for the next:
// whoever has many things to do comes back at once.
const linger = 20 * time.Millisecond

// Desk is where calls lend and work borrows. Use New.
type Desk struct{ waiting chan *request }

type request struct {
	ctx  context.Context
	work Work
	done chan error
}

// New returns a Desk.
func New() *Desk { return &Desk{waiting: make(chan *request)} }

// Borrow waits for a call that lends, has it do work, and returns work's error.
// The error wraps that of ctx when none came.
func (d *Desk) Borrow(ctx context.Context, work Work) error {
	r := &request{ctx: ctx, work: work, done: make(chan error, 1)}
	select {
	case d.waiting <- r:
		return <-r.done
	case <-ctx.Done():
		return fmt.Errorf("wait for a call of the container runtime, in whose place plugins run: %w", ctx.Err())
	}
}

// Lend does the work of those who wait, one after the other, and returns at once
// when nobody waits. After the first one, work begins only within that time (0 is
// one at most); what has begun ends with its own limits, or with ctx, since a
// plugin that is cut off has to run again. It returns how many it served.
func (d *Desk) Lend(ctx context.Context, run cni.Runner, begin time.Duration) int {
	window, cancel := context.WithTimeout(ctx, begin)
	defer cancel()
	for served := 0; ; served++ {
		r := d.next(window, served > 0)
		if r == nil {
			return served
		}
		r.done <- serve(ctx, r, run)
	}
}

// next returns who waits, or nil; with patience it waits a moment itself.
func (d *Desk) next(ctx context.Context, patience bool) *request {
	if !patience {
		select {
		case r := <-d.waiting:
			return r
		default:
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case r := <-d.waiting:
		return r
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

func serve(ctx context.Context, r *request, run cni.Runner) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(r.ctx, cancel)
	defer stop()
	return r.work(ctx, run)
}

// Runner returns a runner that borrows for each plugin it runs: for calls that
// come from elsewhere than a runtime.
func (d *Desk) Runner() cni.Runner {
	return func(ctx context.Context, plugin string, stdin []byte, env []string) (out []byte, err error) {
		err = d.Borrow(ctx, func(ctx context.Context, run cni.Runner) (err error) {
			out, err = run(ctx, plugin, stdin, env)
			return err
		})
		return out, err
	}
}
