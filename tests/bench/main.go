package main

import (
	"context"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

func main() { bench.Main() }

var bench = program.Program{
	Rounds: 60, Needs: []string{"tendril", "tendrild", "tendril-cni"},
	Lab: true, Fetch: fetch, Measure: measure,
}

// fetch builds what the lab has no network to get modules for.
func fetch(ctx context.Context) error {
	if _, err := programs.Kubernetes(ctx); err != nil {
		return err
	}
	_, err := programs.Plugins(ctx)
	return err
}

// part is one contest with the lines it gives.
type part = program.Part[*stand]

// parts are played in this order.
var parts = []part{attachPart, linksPart, shimPart, wholePart, executablesPart, crowdPart}

func measure(ctx context.Context, r *program.Run) error {
	r.Say("starting an API server, a daemon and a wire")
	r.Fact("reference", "containernetworking/plugins v1.9.1: macvlan + host-local, its data on a tmpfs")
	r.Fact("rounds", r.Rounds)
	s, err := newStand(ctx, r.Bin)
	if err != nil {
		return err
	}
	return s.close(program.Play(ctx, r, s, parts...))
}

func rules(rounds int) contest.Rules {
	return contest.Rules{Rounds: rounds, Warm: 3, Rest: 100 * time.Millisecond}
}
