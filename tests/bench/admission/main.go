package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// options are the flags of this program alone.
type options struct{ reviews, definitions int }

func main() {
	var o options
	flag.IntVar(&o.reviews, "reviews", 1000, "how many reviews a turn has")
	flag.IntVar(&o.definitions, "definitions", 5000, "how many network definitions there are")
	program.Program{
		Name: "admission", Rounds: 20, Needs: []string{"tendril-controller"},
		Check: func() error {
			return errors.Join(program.AtLeast("definitions", o.definitions, 2), program.AtLeast("reviews", o.reviews, 100))
		},
		Measure: o.measure,
	}.Main()
}

var lines = []contest.Comparison{
	{Name: "a review, 8 clients at once: each one's share of the time", Ours: "ours, share", Reference: "injector, share"},
	{Name: "a review, 8 clients at once: the slowest of a hundred", Ours: "ours, p99", Reference: "injector, p99"},
	{Name: "a review, one client: median", Ours: "ours, alone", Reference: "injector, alone"},
}

func (o *options) measure(ctx context.Context, r *program.Run) (err error) {
	r.Say("starting an API server with %d definitions", o.definitions)
	r.Fact("reference", "network resources injector "+programs.InjectorVersion+", its handler")
	r.Fact("definitions", o.definitions)
	r.Fact("rounds", fmt.Sprintf("%d of %d reviews", r.Rounds, o.reviews))
	injector, err := programs.Injector(ctx)
	if err != nil {
		return err
	}
	s, err := newStand(ctx, r.Bin, o.definitions, injector)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	samples, err := contest.Play(ctx, contest.Rules{Rounds: r.Rounds, Warm: 2, Rest: 100 * time.Millisecond},
		s.side("ours", s.ours, o.reviews), s.side("injector", s.theirs, o.reviews))
	if err == nil {
		err = r.Add("mutate", lines, samples)
	}
	if err != nil {
		return fmt.Errorf("measure reviews: %w", err)
	}
	for _, who := range []string{"ours", "injector"} {
		r.Result(who+", reviews a second", fmt.Sprintf("%.0f", 1/samples.Median(who+", share").Seconds()))
	}
	return nil
}
