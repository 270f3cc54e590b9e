package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/vf/sysfs"
)

// rebuildLimit is what the daemon may take from a change to the kubelet's news.
const rebuildLimit = 300 * time.Millisecond

// rebuildPart takes the driver from one of 1,024 VFs, or gives it back, and waits
// until the kubelet's stream has the list without it, or with it: the event, the
// moment in which others are waited for, the scan, the pools, the device-info
// files and the message. Beside it a scan alone.
var rebuildPart = part{
	Name: "rebuild",
	Lines: []contest.Comparison{
		{Name: "change of 1 of 1,024 VFs to the kubelet's list, to 300 ms", Ours: "rebuild", Reference: "limit", Goal: 1},
		{Name: "change of 1 of 1,024 VFs to the kubelet's list, to a scan", Ours: "rebuild", Reference: "scan"},
	},
	Play: func(ctx context.Context, _ struct{}, rounds int) (samples contest.Samples, err error) {
		var all []string
		for _, n := range nics("") {
			all = append(all, n.Netdev)
		}
		err = withNode(ctx, all, func(ctx context.Context, n *node) error {
			stream, err := n.client.ListAndWatch(ctx, &pluginapi.Empty{})
			if err != nil {
				return err
			}
			if err := lists(stream, total); err != nil {
				return err
			}
			samples, err = contest.Play(ctx, rules(rounds), n.change(stream), bare(sysfs.New(n.root)))
			return err
		})
		return samples, err
	},
}

func lists(stream pluginapi.DevicePlugin_ListAndWatchClient, want int) error {
	for {
		list, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("wait for a list of %d devices: %w", want, err)
		}
		if len(list.Devices) == want {
			return nil
		}
	}
}

// change takes a driver link away and puts it back, by turns.
func (n *node) change(stream pluginapi.DevicePlugin_ListAndWatchClient) contest.Side {
	link := filepath.Join(n.root, "bus/pci/devices", nics("")[5].VFAddr(77), "driver")
	away := false
	return func(ctx context.Context, _ int) ([]contest.Took, error) {
		start := time.Now()
		want, err := total, os.Rename(link+".kept", link)
		if !away {
			want, err = total-1, os.Rename(link, link+".kept")
		}
		if err != nil {
			return nil, err
		}
		away = !away
		select {
		case n.events <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := lists(stream, want); err != nil {
			return nil, err
		}
		return []contest.Took{{Series: "rebuild", Time: time.Since(start)}, {Series: "limit", Time: rebuildLimit}}, nil
	}
}

func bare(fs *sysfs.FS) contest.Side {
	return func(context.Context, int) ([]contest.Took, error) {
		start := time.Now()
		if _, _, err := fs.Scan(); err != nil {
			return nil, err
		}
		return []contest.Took{{Series: "scan", Time: time.Since(start)}}, nil
	}
}
