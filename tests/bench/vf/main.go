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

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// options are the command line.
type options struct {
	rounds, calls int
	bin, out      string
}

func main() {
	lab.Init()
	o, err := flags()
	if err == nil {
		lab.Enter()
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = measure(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench vf:", err)
		os.Exit(1)
	}
}

func flags() (o options, err error) {
	repo, err := cache.Repo()
	if err != nil {
		return o, err
	}
	flag.IntVar(&o.rounds, "rounds", 30, "how often each side takes its turn")
	flag.IntVar(&o.calls, "calls", 1000, "how many calls of Allocate a turn has")
	flag.StringVar(&o.bin, "bin", filepath.Join(repo, "bin"), "directory of tendrild, for its version")
	flag.StringVar(&o.out, "out", filepath.Join(repo, "tests", "bench", "results"), "directory of the file with all samples; empty for none")
	flag.Parse()
	if o.rounds < 1 || o.calls < 100 {
		return o, fmt.Errorf("flags -rounds and -calls: values %d and %d are not allowed; allowed: 1 and more, 100 and more", o.rounds, o.calls)
	}
	return o, nil
}

// part is one contest with the lines it gives.
type part struct {
	name  string
	lines []contest.Comparison
	play  func(context.Context, options) (contest.Samples, error)
}

// parts are played in this order.
var parts = []part{scanPart, rebuildPart, allocatePart}

// measure plays every part and prints and keeps what came out.
func measure(ctx context.Context, o options) error {
	r := contest.Report{Facts: append(host.Facts(ctx, o.bin),
		contest.Fact{Name: "reference", Value: "Mellanox/sriovnet v1.1.0; limits; an empty call on the same socket"},
		contest.Fact{Name: "rounds", Value: strconv.Itoa(o.rounds)},
		contest.Fact{Name: "calls of Allocate in a round", Value: strconv.Itoa(o.calls)})}
	for _, p := range parts {
		say("measuring %s, %d rounds", p.name, o.rounds)
		runtime.GC()
		samples, err := p.play(ctx, o)
		if err == nil {
			err = r.Add(p.name, p.lines, samples)
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	r.Facts = append(r.Facts, contest.Fact{Name: "load after", Value: host.Load()})
	path, err := r.Publish(o.out, "vf-")
	if path != "" {
		say("all samples are in %s", path)
	}
	return err
}

func rules(o options) contest.Rules { return contest.Rules{Rounds: o.rounds, Warm: 2} }

// temporary calls use with a directory that is gone afterwards. It is in memory, as
// /sys is, in the lab's own /run, and its name is short: sockets are made below it.
func temporary(use func(dir string) error) error {
	dir, err := os.MkdirTemp("/run", "vf")
	if err != nil {
		return err
	}
	return errors.Join(use(dir), os.RemoveAll(dir))
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench vf: "+format+"\n", args...) }
