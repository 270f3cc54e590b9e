package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
)

// networksPart is the life of a pod with n networks beside its default one.
func networksPart(n int) part {
	p := part{Name: fmt.Sprintf("%d networks", n), Play: func(ctx context.Context, s *stand, rounds int) (contest.Samples, error) {
		return s.lives(ctx, rounds, n)
	}}
	goals := map[string]float64{}
	if n == definitions {
		goals = map[string]float64{"ADD": 1. / 15, "CPU of ADD": 1. / 15, "DEL": 1. / 8}
	}
	for _, what := range []string{"ADD", "CPU of ADD", "DEL", "CPU of DEL"} {
		p.Lines = append(p.Lines, contest.Comparison{Name: fmt.Sprintf("%s, %d networks", what, n), Ours: "tendril " + what, Reference: "multus " + what, Goal: goals[what]})
	}
	return p
}

func (s *stand) lives(ctx context.Context, rounds, networks int) (contest.Samples, error) {
	r := rules(rounds)
	var turns []contest.Side
	var all []*sandbox
	for _, one := range s.sides {
		pods, err := s.sandboxes(ctx, one, r.Warm+r.Rounds, networks)
		if err != nil {
			return nil, err
		}
		all = append(all, pods...)
		turns = append(turns, func(ctx context.Context, round int) ([]contest.Took, error) {
			took, err := s.life(ctx, pods[round+r.Warm])
			if err != nil {
				err = fmt.Errorf("%s: %w", one.name, err)
			}
			return took, err
		})
	}
	samples, err := contest.Play(ctx, r, turns...)
	if err != nil {
		return nil, err
	}
	return samples, s.forget(ctx, all)
}

// settle follows a call before its processor time is read: what it left to do in
// the background, writing events above all, is its own too.
const settle = 400 * time.Millisecond

func (s *stand) life(ctx context.Context, b *sandbox) ([]contest.Took, error) {
	add, addCPU, err := s.spent(ctx, b, b.add, func() error { return s.attached(ctx, b) })
	if err != nil {
		return nil, err
	}
	del, delCPU, err := s.spent(ctx, b, b.del, func() error { return b.has(0) })
	return []contest.Took{
		{Series: b.side.name + " ADD", Time: add}, {Series: b.side.name + " CPU of ADD", Time: addCPU},
		{Series: b.side.name + " DEL", Time: del}, {Series: b.side.name + " CPU of DEL", Time: delCPU},
	}, err
}

// spent is how long a call took, and the processor time of the shim, the plugins
// and the daemon for it.
func (s *stand) spent(ctx context.Context, b *sandbox, call func(context.Context) (time.Duration, error), done func() error) (took, cpu time.Duration, err error) {
	before, err := b.side.cpu()
	if err != nil {
		return 0, 0, err
	}
	if took, err = call(ctx); err != nil {
		return 0, 0, err
	}
	if err := done(); err != nil {
		return 0, 0, err
	}
	pause(ctx, settle)
	after, err := b.side.cpu()
	return took, after - before, err
}

// cpu is what the daemon, its children, and all shims so far have taken.
func (o *side) cpu() (time.Duration, error) {
	daemon, err := o.process.CPU()
	if err != nil {
		return 0, err
	}
	shims, err := host.ShimCPU()
	return daemon + shims, err
}
