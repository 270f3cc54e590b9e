package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

const pools = `{"resourceList": [{"resourceName": "all", "selectors": {"vendors": ["8086"], "drivers": ["vfio-pci"], "pfNames": [%s]}}]}`

// node is inventory and device plugin of a machine with the cards, its VFs on
// vfio-pci, and a kubelet's connection to it.
type node struct {
	root   string // of the tree
	events chan struct{}
	client pluginapi.DevicePluginClient
}

// found is the inventory as the device plugin wants it: nil before a scan.
type found struct{ *sysfs.Inventory }

func (f found) Snapshot() *vf.Snapshot {
	if snap := f.Inventory.Snapshot(); snap.Generation > 0 {
		return snap
	}
	return nil
}

// withNode runs a node while use does; pfNames are selectors.
func withNode(ctx context.Context, pfNames []string, use func(context.Context, *node) error) error {
	return temporary(func(dir string) error {
		n := &node{root: filepath.Join(dir, "sys"), events: make(chan struct{})}
		sockets := filepath.Join(dir, "kubelet", "plugins_registry")
		if err := errors.Join(os.MkdirAll(n.root, 0o755), os.MkdirAll(sockets, 0o755)); err != nil {
			return err
		}
		if err := vftest.Unpack(n.root, vftest.Archive(nics("vfio-pci")...)); err != nil {
			return err
		}
		plugin, inventory, err := n.programs(filepath.Dir(sockets), pfNames)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return inventory.Run(ctx) })
		g.Go(func() error { return plugin.Run(ctx) })
		g.Go(func() error { defer cancel(); return n.visit(ctx, filepath.Join(sockets, "intel.com_all.sock"), use) })
		return g.Wait()
	})
}

func (n *node) programs(kubelet string, pfNames []string) (*deviceplugin.Plugin, *sysfs.Inventory, error) {
	log := slog.New(slog.DiscardHandler)
	names := `"` + strings.Join(pfNames, `","`) + `"`
	cfg, err := deviceplugin.Parse(strings.NewReader(fmt.Sprintf(pools, names)), "config.json", "intel.com")
	if err != nil {
		return nil, nil, err
	}
	inventory := sysfs.NewInventory(sysfs.New(n.root), log, sysfs.Options{Events: n.events})
	plugin, err := deviceplugin.New(deviceplugin.Options{
		KubeletRoot: kubelet, Config: cfg, Inventory: found{inventory}, Log: log, DeviceInfoDir: filepath.Join(kubelet, "devinfo"),
	})
	return plugin, inventory, err
}

// visit connects as the kubelet does once the socket is there.
func (n *node) visit(ctx context.Context, socket string, use func(context.Context, *node) error) error {
	for {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	n.client = pluginapi.NewDevicePluginClient(conn)
	return errors.Join(use(ctx, n), conn.Close())
}
