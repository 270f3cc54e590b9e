package main

import (
	"context"
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
	rounds int
	bin    string
	out    string
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
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func flags() (o options, err error) {
	repo, err := cache.Repo()
	if err != nil {
		return o, err
	}
	flag.IntVar(&o.rounds, "rounds", 60, "how often each side takes its turn")
	flag.StringVar(&o.bin, "bin", filepath.Join(repo, "bin"), "directory of our own programs (make build)")
	flag.StringVar(&o.out, "out", filepath.Join(repo, "tests", "bench", "results"), "directory of the file with all samples; empty for none")
	flag.Parse()
	if o.rounds < 1 {
		return o, fmt.Errorf("flag -rounds: value %d is not allowed; allowed: 1 and more", o.rounds)
	}
	for _, program := range []string{"tendril", "tendrild", "tendril-cni"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return o, fmt.Errorf("find programs (run make build first): %w", err)
		}
	}
	return o, nil
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
type part struct {
	name  string
	lines []contest.Comparison
	play  func(context.Context, *stand, contest.Rules) (contest.Samples, error)
}

// parts are played in this order.
var parts = []part{attachPart, linksPart, shimPart, wholePart, executablesPart, crowdPart}

// measure plays every part and prints and keeps what came out.
func measure(ctx context.Context, o options) error {
	say("starting an API server, a daemon and a wire")
	s, err := newStand(ctx, o.bin)
	if err != nil {
		return err
	}
	r := contest.Report{Facts: append(host.Facts(ctx, o.bin),
		contest.Fact{Name: "reference", Value: "containernetworking/plugins v1.9.1: macvlan + host-local, its data on a tmpfs"},
		contest.Fact{Name: "rounds", Value: strconv.Itoa(o.rounds)})}
	for _, p := range parts {
		say("measuring %s, %d rounds", p.name, o.rounds)
		runtime.GC()
		samples, err := p.play(ctx, s, contest.Rules{Rounds: o.rounds, Warm: 3, Rest: 100 * time.Millisecond})
		if err == nil {
			err = r.Add(p.name, p.lines, samples)
		}
		if err != nil {
			return s.close(fmt.Errorf("measure %s: %w", p.name, err))
		}
	}
	if err := s.close(nil); err != nil {
		return err
	}
	r.Facts = append(r.Facts, contest.Fact{Name: "load after", Value: host.Load()})
	path, err := r.Publish(o.out, "")
	if path != "" {
		say("all samples are in %s", path)
	}
	return err
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
