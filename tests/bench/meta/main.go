package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

var (
	bursts = flag.Int("bursts", 3, "how often each side has its burst of pods")
	crowd  = flag.Int("pods", 250, "how many pods there are when memory is looked at")
)

func main() {
	program.Program{
		Name: "meta", Rounds: 20, Needs: []string{"tendril", "tendrild"},
		Lab: true, Fetch: fetch, Measure: measure,
		Check: func() error {
			return errors.Join(program.AtLeast("bursts", *bursts, 1), program.AtLeast("pods", *crowd, 1))
		},
	}.Main()
}

// fetch builds what the lab has no network to get modules for.
func fetch(ctx context.Context) error {
	_, err := programs.Kubernetes(ctx)
	for _, build := range []func(context.Context) (string, error){programs.Plugins, programs.Multus} {
		if err == nil {
			_, err = build(ctx)
		}
	}
	return err
}

// part is one contest with the lines it gives.
type part = program.Part[*stand]

// parts are played in this order, on daemons that reach the API server directly.
var parts = []part{shimPart, networksPart(1), networksPart(4), networksPart(8), burstPart}

func measure(ctx context.Context, r *program.Run) (err error) {
	r.Say("starting an API server and a wire")
	r.Fact("reference", "Multus v4.3.0 thick; containernetworking/plugins v1.9.1, their data on a tmpfs")
	r.Fact("rounds", r.Rounds)
	r.Fact("bursts", *bursts)
	s, err := newStand(ctx, r.Bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(err != nil)) }()
	if err := s.start(ctx, false); err != nil {
		return err
	}
	if err := program.Play(ctx, r, s, parts...); err != nil {
		return err
	}
	if err := s.counted(ctx, r); err != nil {
		return err
	}
	return s.returned()
}

// counted starts both daemons anew, behind proxies, and counts their calls and
// looks at their memory.
func (s *stand) counted(ctx context.Context, r *program.Run) error {
	if err := s.start(ctx, true); err != nil {
		return err
	}
	r.Say("counting calls to the API server")
	calls, err := s.calls(ctx)
	if err != nil {
		return fmt.Errorf("count calls: %w", err)
	}
	r.Say("starting %d pods on each side", *crowd)
	memory, err := s.memory(ctx, *crowd)
	if err != nil {
		return fmt.Errorf("look at memory: %w", err)
	}
	least, err := s.leastCalls(ctx)
	if err != nil {
		return fmt.Errorf("count the least calls: %w", err)
	}
	for _, f := range slices.Concat(calls, least, memory) {
		r.Result(f.Name, f.Value)
	}
	return nil
}

func rules(rounds int) contest.Rules {
	return contest.Rules{Rounds: rounds, Warm: min(2, rounds), Rest: 100 * time.Millisecond}
}
