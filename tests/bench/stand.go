package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// master is the link that every macvlan rides on: one end of a wire.
const master = "uplink0"

// stand is the machine that is measured on.
type stand struct {
	dir     string // of everything that is on disk
	bin     string // directory of our own programs
	plugins string // directory of the reference plugins
	master  netlink.Link
	pods    *host.Pods
	api     *kube.API
	daemon  *host.Tendril
}

func newStand(ctx context.Context, bin string) (*stand, error) {
	dir, err := os.MkdirTemp("", "tendril-bench-")
	if err != nil {
		return nil, err
	}
	s := &stand{dir: dir, bin: bin}
	if err := s.open(ctx, bin); err != nil {
		return nil, s.close(fmt.Errorf("make stand: %w", err))
	}
	return s, nil
}

func (s *stand) open(ctx context.Context, bin string) (err error) {
	if s.plugins, err = programs.Plugins(ctx); err != nil {
		return err
	}
	if s.master, err = host.Wire(ctx, master); err != nil {
		return err
	}
	if s.pods, err = host.NewPods(); err != nil {
		return err
	}
	if s.api, err = kube.Start(ctx, kube.Options{Dir: filepath.Join(s.dir, "kube")}); err != nil {
		return err
	}
	network, err := json.Marshal(map[string]any{"cniVersion": host.CNIVersion, "name": "ours", "plugins": []any{macvlanConf(oursSubnet)}})
	if err != nil {
		return err
	}
	s.daemon, err = host.StartTendril(ctx, host.Options{Bin: bin, Dir: s.dir, Kubeconfig: s.api.Kubeconfig(kube.Admin), Node: node,
		Default: network, Plugins: s.plugins})
	return err
}

// close ends everything and returns err with what went wrong on the way.
func (s *stand) close(err error) error {
	if s.daemon != nil {
		err = errors.Join(err, s.daemon.Stop(err != nil))
	}
	if s.api != nil {
		err = errors.Join(err, s.api.Close())
	}
	if s.pods != nil {
		err = errors.Join(err, s.pods.Close())
	}
	if s.master != nil {
		err = errors.Join(err, netlink.LinkDel(s.master))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
