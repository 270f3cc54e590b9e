package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/kube"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
	"github.com/tendril-cni/tendril/tests/bench/program"
)

// coldStart starts every pod of a cluster that has no address yet, as fast as
// this machine can, in a roomy range.
func (o *options) coldStart(ctx context.Context, config *rest.Config, dir string, r *program.Run) error {
	c, err := ipam.Parse([]byte(`{"type":"whereabouts","range":"10.64.0.0/14","network_name":"cold"}`))
	if err != nil {
		return err
	}
	counted := &calls{}
	config = counted.wrap(config)
	nodes := make([]*node, o.nodes)
	for i := range nodes {
		if nodes[i], err = newNode(config, dir, fmt.Sprintf("node-%d", i)); err != nil {
			return err
		}
	}
	start := time.Now()
	took, err := storm(ctx, c, nodes, o.pods)
	if err != nil {
		return err
	}
	spent := time.Since(start)
	adds := len(took)
	blocks, largest := 0, 0
	all, err := kube.NewBlocks(config)
	if err != nil {
		return err
	}
	err = all.List(ctx, func(b *v1alpha1.AddressBlock) error {
		if b.Spec.Space != "cold" {
			return nil
		}
		blocks++
		data, err := json.Marshal(b)
		largest = max(largest, len(data))
		return err
	})
	if err != nil {
		return err
	}
	r.Fact("cold start", fmt.Sprintf("%d nodes x %d pods in %v; ADD p50 %v p90 %v max %v", o.nodes, o.pods, spent.Round(time.Millisecond), at(took, 50), at(took, 90), at(took, 100)))
	r.Fact("its API calls", fmt.Sprintf("%s: %.3f writes and %.3f reads per ADD; %d blocks, the largest %d bytes", counted,
		float64(counted.writes.Load())/float64(adds), float64(counted.reads.Load())/float64(adds), blocks, largest))
	return nil
}

// storm runs the pods of all nodes at once, those of a node one after the other.
func storm(ctx context.Context, c ipam.Config, nodes []*node, pods int) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for p := range pods {
				start := time.Now()
				addrs, err := n.add(ctx, c, fmt.Sprintf("%d-%d", i, p))
				spent := time.Since(start)
				mu.Lock()
				if err == nil && seen[addrs[0]] {
					err = fmt.Errorf("%s was given twice", addrs[0])
				}
				if err != nil {
					failed = err
				} else {
					seen[addrs[0]] = true
				}
				took = append(took, spent)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return took, failed
}
