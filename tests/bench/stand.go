package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// master is the link that every macvlan rides on: one end of a wire.
const master = "uplink0"

// patience bounds every wait.
const patience = 30 * time.Second

// stand is the machine that is measured on.
type stand struct {
	dir     string // of everything that is on disk
	plugins string // directory of the reference plugins
	master  netlink.Link
	pods    pods
	api     *kube.API
	daemon  *daemon
}

func newStand(ctx context.Context, bin string) (*stand, error) {
	dir, err := os.MkdirTemp("", "tendril-bench-")
	if err != nil {
		return nil, err
	}
	s := &stand{dir: dir}
	if err := s.open(ctx, bin); err != nil {
		return nil, s.close(fmt.Errorf("make stand: %w", err))
	}
	return s, nil
}

func (s *stand) open(ctx context.Context, bin string) (err error) {
	if s.plugins, err = programs.Plugins(ctx); err != nil {
		return err
	}
	if s.master, err = wire(ctx); err != nil {
		return err
	}
	if s.pods, err = newPods(); err != nil {
		return err
	}
	if s.api, err = kube.Start(ctx, kube.Options{Dir: filepath.Join(s.dir, "kube")}); err != nil {
		return err
	}
	s.daemon, err = startDaemon(ctx, bin, s.dir, s.api.Kubeconfig(kube.Admin))
	return err
}

// close ends everything and returns err with what went wrong on the way.
func (s *stand) close(err error) error {
	if s.daemon != nil {
		err = errors.Join(err, s.daemon.stop(err != nil))
	}
	if s.api != nil {
		err = errors.Join(err, s.api.Close())
	}
	err = errors.Join(err, s.pods.close())
	if s.master != nil {
		err = errors.Join(err, netlink.LinkDel(s.master))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// wire makes the master and its far end, and waits for it to carry frames.
func wire(ctx context.Context) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = master
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "uplink1"}); err != nil {
		return nil, fmt.Errorf("make %s: %w", master, err)
	}
	for _, name := range []string{master, "uplink1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return nil, fmt.Errorf("set up %s: %w", name, err)
		}
	}
	var l netlink.Link
	err := await(ctx, master+" to come up", func() (done bool, err error) {
		l, err = netlink.LinkByName(master)
		return err == nil && l.Attrs().OperState == netlink.OperUp, err
	})
	return l, err
}

// await polls until done, an error, or the end of patience.
func await(ctx context.Context, what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		ok, err := done()
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait for %s: not within %v", what, patience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
