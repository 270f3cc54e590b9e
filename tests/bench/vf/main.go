package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/program"
)

// calls is how many calls of Allocate a turn has.
var calls = flag.Int("calls", 1000, "how many calls of Allocate a turn has")

func main() { bench.Main() }

var bench = program.Program{
	Name: "vf", Rounds: 30, Lab: true, Measure: measure,
	Check: func() error { return program.AtLeast("calls", *calls, 100) },
}

// part is one contest with the lines it gives. It needs no stand.
type part = program.Part[struct{}]

// parts are played in this order.
var parts = []part{scanPart, rebuildPart, allocatePart}

func measure(ctx context.Context, r *program.Run) error {
	r.Fact("reference", "Mellanox/sriovnet v1.1.0; limits; an empty call on the same socket")
	r.Fact("rounds", r.Rounds)
	r.Fact("calls of Allocate in a round", *calls)
	return program.Play(ctx, r, struct{}{}, parts...)
}

func rules(rounds int) contest.Rules { return contest.Rules{Rounds: rounds, Warm: 2} }

// temporary calls use with a directory that is gone afterwards. It is in memory, as
// /sys is, in the lab's own /run, and its name is short: sockets are made below it.
func temporary(use func(dir string) error) error {
	dir, err := os.MkdirTemp("/run", "vf")
	if err != nil {
		return err
	}
	return errors.Join(use(dir), os.RemoveAll(dir))
}
