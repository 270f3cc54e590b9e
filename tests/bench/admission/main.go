package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// options are the command line.
type options struct {
	rounds, reviews, definitions int
	bin, out                     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	o, err := flags()
	if err == nil {
		err = measure(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench admission:", err)
		os.Exit(1)
	}
}

func flags() (o options, err error) {
	repo, err := cache.Repo()
	if err != nil {
		return o, err
	}
	flag.IntVar(&o.rounds, "rounds", 20, "how often each side takes its turn")
	flag.IntVar(&o.reviews, "reviews", 1000, "how many reviews a turn has")
	flag.IntVar(&o.definitions, "definitions", 5000, "how many network definitions there are")
	flag.StringVar(&o.bin, "bin", filepath.Join(repo, "bin"), "directory of tendril-controller and tendrild (make build)")
	flag.StringVar(&o.out, "out", filepath.Join(repo, "tests", "bench", "results"), "directory of the file with all samples; empty for none")
	flag.Parse()
	if o.definitions < 2 || o.rounds < 1 || o.reviews < 100 {
		return o, fmt.Errorf("flags -definitions, -rounds, -reviews: values %d, %d, %d are not allowed; allowed: from 2, 1, 100", o.definitions, o.rounds, o.reviews)
	}
	if _, err := os.Stat(filepath.Join(o.bin, "tendril-controller")); err != nil {
		return o, fmt.Errorf("find programs (run make build first): %w", err)
	}
	return o, nil
}

var lines = []contest.Comparison{
	{Name: "a review, 8 clients at once: each one's share of the time", Ours: "ours, share", Reference: "injector, share"},
	{Name: "a review, 8 clients at once: the slowest of a hundred", Ours: "ours, p99", Reference: "injector, p99"},
	{Name: "a review, one client: median", Ours: "ours, alone", Reference: "injector, alone"},
}

// measure plays the contest and prints and keeps what came out.
func measure(ctx context.Context, o options) (err error) {
	say("starting an API server with %d definitions", o.definitions)
	injector, err := programs.Injector(ctx)
	if err != nil {
		return err
	}
	s, err := newStand(ctx, o, injector)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := contest.Report{Facts: append(host.Facts(ctx, o.bin),
		contest.Fact{Name: "reference", Value: "network resources injector " + programs.InjectorVersion + ", its handler"},
		contest.Fact{Name: "definitions", Value: strconv.Itoa(o.definitions)},
		contest.Fact{Name: "rounds", Value: fmt.Sprintf("%d of %d reviews", o.rounds, o.reviews)})}
	say("measuring")
	samples, err := contest.Play(ctx, contest.Rules{Rounds: o.rounds, Warm: 2, Rest: 100 * time.Millisecond},
		s.side("ours", s.ours, o.reviews), s.side("injector", s.theirs, o.reviews))
	if err == nil {
		err = r.Add("mutate", lines, samples)
	}
	if err != nil {
		return fmt.Errorf("measure reviews: %w", err)
	}
	for _, who := range []string{"ours", "injector"} {
		f := contest.Fact{Name: who + ", reviews a second", Value: fmt.Sprintf("%.0f", 1/samples.Median(who+", share").Seconds())}
		fmt.Printf("%s: %s\n", f.Name, f.Value)
		r.Facts = append(r.Facts, f)
	}
	r.Facts = append(r.Facts, contest.Fact{Name: "load after", Value: host.Load()})
	path, err := r.Publish(o.out, "admission-")
	if path != "" {
		say("all samples are in %s", path)
	}
	return err
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench admission: "+format+"\n", args...)
}
