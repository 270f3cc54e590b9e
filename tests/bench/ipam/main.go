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
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
)

// options are the command line.
type options struct {
	rounds, burst, nodes, pods int
	reference                  bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 20, "how often each side takes its turn")
	flag.IntVar(&o.burst, "burst", 64, "pods of the burst, 8 at a time")
	flag.IntVar(&o.nodes, "nodes", 500, "nodes of the cold start, 0 to leave it out")
	flag.IntVar(&o.pods, "pods", 20, "pods on each of them")
	flag.BoolVar(&o.reference, "whereabouts", true, "measure whereabouts as well")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "bench ipam:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "tendril-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
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
		if err := compare(ctx, o, config, dir, w); err != nil {
			return err
		}
	}
	if o.nodes == 0 {
		return nil
	}
	return coldStart(ctx, o, config, dir)
}

// allocator is one side: add gives an address or several to id, del takes them.
type allocator struct {
	name string
	add  func(ctx context.Context, ranges, id string) ([]netip.Addr, error)
	del  func(ctx context.Context, ranges, id string) error
}

func compare(ctx context.Context, o options, config *rest.Config, dir string, w *whereabouts) error {
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
	for name, ranges := range map[string]string{"1 address": one, "4 addresses": four} {
		a, b, err := byTurns(ctx, o.rounds, ranges, ours, theirs)
		if err != nil {
			return err
		}
		print(name, a, b)
	}
	before := c.String()
	var took [2][]time.Duration
	for i, side := range []allocator{ours, theirs} {
		if took[i], err = side.burst(ctx, `"range":"10.5.0.0/16"`, o.burst); err != nil {
			return err
		}
	}
	print(fmt.Sprintf("%d pods, 8 at a time", o.burst), took[0], took[1])
	fmt.Printf("tendril's API calls: before the burst %s, after it %s\n", before, c)
	return nil
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

func print(name string, ours, theirs []time.Duration) {
	fmt.Printf("%-24s tendril p50 %10v p90 %10v max %10v   whereabouts p50 %10v p90 %10v max %10v   %0.0fx p50, %0.0fx p90\n", name,
		at(ours, 50), at(ours, 90), at(ours, 100), at(theirs, 50), at(theirs, 90), at(theirs, 100),
		float64(at(theirs, 50))/float64(at(ours, 50)), float64(at(theirs, 90))/float64(at(ours, 90)))
}

// at is a percentile.
func at(d []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)-1)*percent/100].Round(time.Microsecond)
}
