package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// atRest is for how long the daemon's processor time is looked at while nothing
// happens.
const atRest = 20 * time.Second

// memory starts n pods on each side, and looks at the daemon while they run.
func (s *stand) memory(ctx context.Context, n int) ([]contest.Fact, error) {
	var facts []contest.Fact
	for _, one := range s.sides {
		pods, err := s.sandboxes(ctx, one, n, burstNetworks)
		if err != nil {
			return nil, err
		}
		took, err := s.together(ctx, pods, (*sandbox).add)
		for _, b := range pods {
			if err == nil {
				err = s.attached(ctx, b)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		pause(ctx, 2*time.Second)
		value, err := one.resident()
		if err != nil {
			return nil, err
		}
		charged, err := one.charged()
		if err != nil {
			return nil, err
		}
		idle, err := one.idle(ctx)
		if err != nil {
			return nil, err
		}
		facts = append(facts, contest.Fact{Name: fmt.Sprintf("memory of %s with %d pods of %d networks", one.name, n, burstNetworks),
			Value: fmt.Sprintf("%s; %s; they took %.1f s to start", value, charged, took.Seconds())},
			contest.Fact{Name: fmt.Sprintf("processor time of %s at rest with %d pods", one.name, n), Value: fmt.Sprintf("%v in %v", idle, atRest)})
		if _, err := s.together(ctx, pods, (*sandbox).del); err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		if err := s.forget(ctx, pods); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// idle is the daemon's processor time while nothing happens.
func (o *side) idle(ctx context.Context) (time.Duration, error) {
	before, err := o.process.CPU()
	if err != nil {
		return 0, err
	}
	pause(ctx, atRest)
	after, err := o.process.CPU()
	return after - before, err
}

// resident says what of the daemon is in memory now, what of it is not its
// executable, and what was at most.
func (o *side) resident() (string, error) {
	var mib [3]float64
	for i, line := range []string{"VmRSS", "RssAnon", "VmHWM"} {
		kib, err := o.process.Memory(line)
		if err != nil {
			return "", err
		}
		mib[i] = float64(kib) / 1024
	}
	return fmt.Sprintf("%.1f MiB resident, %.1f MiB of that anonymous; %.1f MiB at most", mib[0], mib[1], mib[2]), nil
}
