package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/program"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

// options are the flags of this program alone.
type options struct {
	burst, nodes, pods int
	reference          bool
}

func main() {
	var o options
	flag.IntVar(&o.burst, "burst", 64, "pods of the burst, 8 at a time")
	flag.IntVar(&o.nodes, "nodes", 500, "nodes of the cold start, 0 to leave it out")
	flag.IntVar(&o.pods, "pods", 20, "pods on each of them")
	flag.BoolVar(&o.reference, "whereabouts", true, "measure whereabouts as well")
	program.Program{
		Name: "ipam", Rounds: 20,
		Check:   func() error { return program.AtLeast("burst", o.burst, 8) },
		Measure: o.measure,
	}.Main()
}

// workplace makes a directory for the journals: in memory where that can be, as
// the daemon's is.
func workplace() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "tendril-bench-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "tendril-bench-")
}

func (o *options) measure(ctx context.Context, r *program.Run) error {
	dir, err := workplace()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.Fact("rounds", r.Rounds)
	var w *whereabouts
	var crds []string
	if o.reference {
		if w, crds, err = buildWhereabouts(ctx, dir); err != nil {
			return err
		}
	}
	api, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer api.Close()
	if err := api.InstallCRDs(ctx, crds...); err != nil {
		return err
	}
	config, err := api.RESTConfig(lab.Admin)
	if err != nil {
		return err
	}
	if w != nil {
		if err := w.configure(api.Kubeconfig(lab.Admin)); err != nil {
			return err
		}
		if err := o.compare(ctx, config, dir, w, r); err != nil {
			return err
		}
	}
	if o.nodes > 0 {
		return o.coldStart(ctx, config, dir, r)
	}
	return nil
}

// allocator is one side: add gives an address or several to id, del takes them.
type allocator struct {
	name string
	add  func(ctx context.Context, ranges, id string) ([]netip.Addr, error)
	del  func(ctx context.Context, ranges, id string) error
}

func (o *options) compare(ctx context.Context, config *rest.Config, dir string, w *whereabouts, r *program.Run) error {
	c := &calls{}
	n, err := newNode(c.wrap(config), dir, "alone")
	if err != nil {
		return err
	}
	ours := allocator{"tendril", func(ctx context.Context, ranges, id string) ([]netip.Addr, error) {
		parsed, err := ipam.Parse([]byte(`{"type":"whereabouts",` + ranges + `}`))
		if err != nil {
			return nil, err
		}
		return n.add(ctx, parsed, id)
	}, func(_ context.Context, _, id string) error { return n.del(id) }}
	theirs := allocator{"whereabouts", func(ctx context.Context, ranges, id string) ([]netip.Addr, error) {
		return w.run(ctx, "ADD", ranges, id)
	}, func(ctx context.Context, ranges, id string) error {
		_, err := w.run(ctx, "DEL", ranges, id)
		return err
	}}
	one := `"range":"10.0.0.0/16"`
	four := `"ipRanges":[{"range":"10.1.0.0/16"},{"range":"10.2.0.0/16"},{"range":"10.3.0.0/16"},{"range":"10.4.0.0/16"}]`
	for _, part := range []struct {
		name, ranges string
		goal         float64
	}{{"1 address", one, 0}, {"4 addresses", four, 1. / 50}} {
		a, b, err := byTurns(ctx, r.Rounds, part.ranges, ours, theirs)
		if err == nil {
			err = keep(r, part.name, a, b, []contest.Comparison{{Name: part.name, Ours: ourSeries, Reference: theirSeries, Goal: part.goal}})
		}
		if err != nil {
			return err
		}
	}
	before := c.String()
	var took [2][]time.Duration
	for i, side := range []allocator{ours, theirs} {
		if took[i], err = side.burst(ctx, `"range":"10.5.0.0/16"`, o.burst); err != nil {
			return err
		}
	}
	r.Fact("tendril's API calls", fmt.Sprintf("before the burst %s, after it %s", before, c))
	name := fmt.Sprintf("%d pods, 8 at a time", o.burst)
	return keep(r, name, took[0], took[1], []contest.Comparison{
		{Name: name + ", cold", Ours: ourSeries, Reference: theirSeries},
		{Name: name + ", 90 %", Ours: ourSeries + most, Reference: theirSeries + most, Goal: 1. / 100},
	})
}

// The series of a report; most is appended for the one sample that is the 90th
// percentile of the others.
const (
	ourSeries   = "tendril"
	theirSeries = "whereabouts"
	most        = ", 90 %"
)

// keep puts the samples of both sides, and their 90th percentiles, into the report.
func keep(r *program.Run, name string, ours, theirs []time.Duration, lines []contest.Comparison) error {
	var s contest.Samples
	for series, took := range map[string][]time.Duration{ourSeries: ours, theirSeries: theirs} {
		for i, t := range took {
			s = append(s, contest.Sample{Series: series, Round: i, Time: t})
		}
		s = append(s, contest.Sample{Series: series + most, Time: at(took, 90)})
	}
	return r.Add(name, lines, s)
}

// byTurns times ADDs of the two sides, one after the other.
func byTurns(ctx context.Context, rounds int, ranges string, sides ...allocator) (a, b []time.Duration, err error) {
	took := make([][]time.Duration, len(sides))
	for round := -2; round < rounds; round++ {
		for i, side := range sides {
			id := fmt.Sprintf("%s-%d", side.name, round+2)
			start := time.Now()
			addrs, err := side.add(ctx, ranges, id)
			spent := time.Since(start)
			if err != nil {
				return nil, nil, err
			}
			if len(addrs) == 0 {
				return nil, nil, fmt.Errorf("%s gave %s no address", side.name, id)
			}
			if round >= 0 {
				took[i] = append(took[i], spent)
			}
		}
	}
	return took[0], took[1], nil
}

// burst times every ADD of count pods, 8 of which are under way at a time.
func (a allocator) burst(ctx context.Context, ranges string, count int) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	turns := make(chan int)
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range turns {
				start := time.Now()
				addrs, err := a.add(ctx, ranges, fmt.Sprintf("%s-burst-%d", a.name, i))
				spent := time.Since(start)
				mu.Lock()
				for _, addr := range addrs {
					if seen[addr] {
						err = fmt.Errorf("%s gave %s twice", a.name, addr)
					}
					seen[addr] = true
				}
				if err != nil {
					failed = err
				}
				took = append(took, spent)
				mu.Unlock()
			}
		}()
	}
	for i := range count {
		turns <- i
	}
	close(turns)
	wg.Wait()
	return took, failed
}

// at is a percentile.
func at(d []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)-1)*percent/100].Round(time.Microsecond)
}
