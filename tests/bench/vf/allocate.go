package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/tests/bench/contest"
)

// allocatePart asks for one device of 1,000 at a time, as the kubelet does, each
// with its lease taken, beside calls on the same socket that do nothing: what is
// left is ours. A sample is the 99th percentile, or the median, of the calls of
// one round.
var allocatePart = part{
	Name: "allocate",
	Lines: []contest.Comparison{
		{Name: "Allocate with 1,000 devices, 99th percentile, to an empty call's", Ours: "allocate p99", Reference: "empty p99", Goal: 2},
		{Name: "Allocate with 1,000 devices, median, to an empty call's", Ours: "allocate p50", Reference: "empty p50", Goal: 2},
	},
	Play: func(ctx context.Context, _ struct{}, rounds int) (samples contest.Samples, err error) {
		var thousand []string
		for _, n := range nics("") {
			thousand = append(thousand, fmt.Sprintf("%s#0-%d", n.Netdev, 1000/cards-1))
		}
		err = withNode(ctx, thousand, func(ctx context.Context, n *node) error {
			ids, err := n.devices(ctx)
			if err != nil {
				return err
			}
			samples, err = contest.Play(ctx, rules(rounds), percentiles("allocate", *calls, func(i int) error {
				return n.allocate(ctx, ids[i%len(ids)])
			}), percentiles("empty", *calls, func(int) error {
				_, err := n.client.PreStartContainer(ctx, &pluginapi.PreStartContainerRequest{})
				return err
			}))
			return err
		})
		return samples, err
	},
}

// devices are the ids of the node's first list. The stream stays open, as a
// kubelet's does: a plugin without one would begin to register anew.
func (n *node) devices(ctx context.Context) ([]string, error) {
	stream, err := n.client.ListAndWatch(ctx, &pluginapi.Empty{})
	if err != nil {
		return nil, err
	}
	list, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range list.Devices {
		ids = append(ids, d.ID)
	}
	if len(ids) != 1000 {
		return nil, fmt.Errorf("there are %d devices, want 1000", len(ids))
	}
	return ids, nil
}

func (n *node) allocate(ctx context.Context, id string) error {
	r, err := n.client.Allocate(ctx, &pluginapi.AllocateRequest{
		ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: []string{id}}},
	})
	if err != nil {
		return err
	}
	if c := r.ContainerResponses; len(c) != 1 || c[0].Envs["PCIDEVICE_INTEL_COM_ALL"] != id || len(c[0].Devices) != 2 {
		return fmt.Errorf("allocation of %s answers %v", id, r)
	}
	return nil
}

// percentiles is a side that does one thing many times.
func percentiles(name string, calls int, do func(i int) error) contest.Side {
	return func(_ context.Context, round int) ([]contest.Took, error) {
		took := make([]time.Duration, calls)
		for i := range took {
			start := time.Now()
			if err := do((round+3)*calls + i); err != nil {
				return nil, err
			}
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		return []contest.Took{{Series: name + " p50", Time: took[calls/2]}, {Series: name + " p99", Time: took[calls*99/100]}}, nil
	}
}
