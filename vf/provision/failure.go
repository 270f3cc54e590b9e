package provision

import (
	"slices"
	"time"

	"github.com/tendril-cni/tendril/vf"
)

// How long a PF is left alone after its steps failed: doubled each time.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// failure is a PF whose steps failed, or did not lead to what was planned.
type failure struct {
	err   error
	tries int
	until time.Time
}

// waits reports whether it is too early to try again. A nil failure is none.
func (f *failure) waits() bool { return f != nil && time.Now().Before(f.until) }

// note counts a worker's end. Steps that succeeded and are planned again are as
// bad as failing ones (somebody undoes them), but the first such round is free:
// making VFs is followed by steps that nobody could plan before.
func (p *Provisioner) note(o outcome) {
	f := p.failures[o.pf]
	if f == nil {
		f = &failure{}
		p.failures[o.pf] = f
	}
	f.err = o.err
	if f.tries++; o.err == nil && f.tries < 3 {
		return
	}
	f.until = time.Now().Add(min(firstRetry<<min(f.tries-1, 10), lastRetry))
	if o.err != nil {
		p.opts.Log.Warn("VF policies are not applied to a PF yet", "pf", o.pf, "error", o.err, "tries", f.tries)
	}
}

// forget drops the failures of PFs with nothing left to do.
func (p *Provisioner) forget(steps []vf.Step) {
	for pf := range p.failures {
		left := slices.ContainsFunc(steps, func(s vf.Step) bool { return s.PF == pf && s.Blocked == nil })
		if !left && !p.workers[pf] {
			delete(p.failures, pf)
		}
	}
}

// nextTry is when the first failed PF may be tried again, sweep at the latest.
func (p *Provisioner) nextTry() time.Duration {
	next := sweep
	for pf, f := range p.failures {
		if left := time.Until(f.until); !p.workers[pf] && left > 0 {
			next = min(next, left+time.Millisecond)
		}
	}
	return next
}
