package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// options are the command line.
type options struct {
	rounds, bursts, pods int
	bin, out             string
}

func main() {
	lab.Init()
	o, err := flags()
	if err == nil && !lab.Inside() {
		err = fetch(context.Background())
	}
	if err == nil {
		lab.Enter()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = measure(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench meta:", err)
		os.Exit(1)
	}
}

func flags() (o options, err error) {
	repo, err := cache.Repo()
	if err != nil {
		return o, err
	}
	flag.IntVar(&o.rounds, "rounds", 20, "how often each side takes its turn")
	flag.IntVar(&o.bursts, "bursts", 3, "how often each side has its burst of pods")
	flag.IntVar(&o.pods, "pods", 250, "how many pods there are when memory is looked at")
	flag.StringVar(&o.bin, "bin", filepath.Join(repo, "bin"), "directory of tendril and tendrild (make build)")
	flag.StringVar(&o.out, "out", filepath.Join(repo, "tests", "bench", "results"), "directory of the file with all samples; empty for none")
	flag.Parse()
	for _, program := range []string{"tendril", "tendrild"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return o, fmt.Errorf("find programs (run make build first): %w", err)
		}
	}
	return o, nil
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
type part struct {
	name  string
	lines []contest.Comparison
	play  func(context.Context, *stand, options) (contest.Samples, error)
}

// parts are played in this order, on daemons that reach the API server directly.
var parts = []part{shimPart, networksPart(1), networksPart(4), networksPart(8), burstPart}

// measure plays every part and prints and keeps what came out.
func measure(ctx context.Context, o options) (err error) {
	say("starting an API server and a wire")
	s, err := newStand(ctx, o.bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(err != nil)) }()
	r := contest.Report{Facts: append(host.Facts(ctx, o.bin),
		contest.Fact{Name: "reference", Value: "Multus v4.3.0 thick; containernetworking/plugins v1.9.1, their data on a tmpfs"},
		contest.Fact{Name: "rounds", Value: strconv.Itoa(o.rounds)}, contest.Fact{Name: "bursts", Value: strconv.Itoa(o.bursts)})}
	if err := s.start(ctx, false); err != nil {
		return err
	}
	for _, p := range parts {
		say("measuring %s", p.name)
		runtime.GC()
		samples, err := p.play(ctx, s, o)
		if err == nil {
			err = r.Add(p.name, p.lines, samples)
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	facts, err := s.counted(ctx, o)
	if err == nil {
		err = s.returned()
	}
	if err != nil {
		return err
	}
	for _, f := range facts {
		fmt.Printf("%s: %s\n", f.Name, f.Value)
	}
	r.Facts = append(append(r.Facts, facts...), contest.Fact{Name: "load after", Value: host.Load()})
	path, err := r.Publish(o.out, "meta-")
	if path != "" {
		say("all samples are in %s", path)
	}
	return err
}

// counted starts both daemons anew, behind proxies, and counts their calls and
// looks at their memory.
func (s *stand) counted(ctx context.Context, o options) ([]contest.Fact, error) {
	if err := s.start(ctx, true); err != nil {
		return nil, err
	}
	say("counting calls to the API server")
	calls, err := s.calls(ctx)
	if err != nil {
		return nil, fmt.Errorf("count calls: %w", err)
	}
	say("starting %d pods on each side", o.pods)
	memory, err := s.memory(ctx, o.pods)
	if err != nil {
		return nil, fmt.Errorf("look at memory: %w", err)
	}
	return append(calls, memory...), nil
}

func rules(rounds int) contest.Rules {
	return contest.Rules{Rounds: rounds, Warm: min(2, rounds), Rest: 100 * time.Millisecond}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench meta: "+format+"\n", args...) }
