package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

const (
	burstPods     = 64
	burstNetworks = 4
	// atOnce is how many sandboxes are under way at a time.
	atOnce = 8
)

// burstPart is a node that gets many pods at once, as after a drain.
var burstPart = part{
	Name: fmt.Sprintf("%d pods, %d at a time, %d networks", burstPods, atOnce, burstNetworks),
	Lines: []contest.Comparison{
		{Name: "burst: until all pods are attached", Ours: "tendril burst", Reference: "multus burst", Goal: 0.1},
		{Name: "burst: until all pods are detached", Ours: "tendril end of burst", Reference: "multus end of burst"},
	},
	Play: func(ctx context.Context, s *stand, _ int) (contest.Samples, error) {
		var turns []contest.Side
		for _, one := range s.sides {
			turns = append(turns, func(ctx context.Context, _ int) ([]contest.Took, error) { return s.burst(ctx, one) })
		}
		r := rules(*bursts)
		r.Warm = 0
		return contest.Play(ctx, r, turns...)
	},
}

func (s *stand) burst(ctx context.Context, one *side) ([]contest.Took, error) {
	pods, err := s.sandboxes(ctx, one, burstPods, burstNetworks)
	if err != nil {
		return nil, err
	}
	begin, err := s.together(ctx, pods, (*sandbox).add)
	for _, b := range pods {
		if err == nil {
			err = s.attached(ctx, b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", one.name, err)
	}
	end, err := s.together(ctx, pods, (*sandbox).del)
	for _, b := range pods {
		if err == nil {
			err = b.has(0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", one.name, err)
	}
	return []contest.Took{{Series: one.name + " burst", Time: begin}, {Series: one.name + " end of burst", Time: end}}, s.forget(ctx, pods)
}

// together makes one call for each pod, atOnce at a time, and says how long it
// took until all were answered.
func (s *stand) together(ctx context.Context, pods []*sandbox, call func(*sandbox, context.Context) (time.Duration, error)) (time.Duration, error) {
	errs := make([]error, len(pods))
	slots := make(chan struct{}, atOnce)
	var calls sync.WaitGroup
	start := time.Now()
	for i, b := range pods {
		slots <- struct{}{}
		calls.Go(func() { _, errs[i] = call(b, ctx); <-slots })
	}
	calls.Wait()
	return time.Since(start), errors.Join(errs...)
}
