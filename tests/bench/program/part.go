package program

import (
	"context"
	"fmt"
	"runtime"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// Part is one contest, on a stand S, with the lines it gives.
type Part[S any] struct {
	Name  string
	Lines []contest.Comparison
	Play  func(ctx context.Context, stand S, rounds int) (contest.Samples, error)
}

// Play plays parts in their order and adds them to r's report. It ends at the
// first that fails.
func Play[S any](ctx context.Context, r *Run, stand S, parts ...Part[S]) error {
	for _, p := range parts {
		r.Say("measuring %s", p.Name)
		runtime.GC()
		samples, err := p.Play(ctx, stand, r.Rounds)
		if err == nil {
			err = r.report.Add(p.Name, p.Lines, samples)
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.Name, err)
		}
	}
	return nil
}
