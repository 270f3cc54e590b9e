package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// master is the link that every macvlan rides on: one end of a wire.
const master = "uplink0"

// stand is the machine that is measured on.
type stand struct {
	bin, dir        string
	plugins, multus string // directories of the reference's executables
	master          netlink.Link
	pods            *host.Pods
	api             *kube.API
	admin           *rest.Config
	client          kubernetes.Interface
	sides           []*side  // Tendril, Multus; empty between runs
	flags           []string // further ones of tendrild
}

func newStand(ctx context.Context, bin string) (*stand, error) {
	dir, err := os.MkdirTemp("", "tendril-bench-")
	if err != nil {
		return nil, err
	}
	s := &stand{bin: bin, dir: dir}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make stand: %w", err), s.close(false))
	}
	return s, nil
}

func (s *stand) open(ctx context.Context) (err error) {
	if s.plugins, err = programs.Plugins(ctx); err != nil {
		return err
	}
	if s.multus, err = programs.Multus(ctx); err != nil {
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
	if s.admin, err = s.api.RESTConfig(kube.Admin); err != nil {
		return err
	}
	if s.client, err = kubernetes.NewForConfig(s.admin); err != nil {
		return err
	}
	for _, name := range []string{"tendril", "multus"} {
		if err := s.api.Apply(ctx, fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q}}`, name)); err != nil {
			return err
		}
	}
	return s.define(ctx)
}

// definitions is how many networks there are to ask for.
const definitions = 8

// define makes the definitions that both sides attach.
func (s *stand) define(ctx context.Context) error {
	for i := range definitions {
		config, err := json.Marshal(map[string]any{
			"cniVersion": host.CNIVersion, "type": "macvlan", "master": master, "mode": "bridge",
			"ipam": hostLocal(fmt.Sprintf("10.%d.0.0/16", 64+i)),
		})
		if err != nil {
			return err
		}
		err = s.api.Apply(ctx, fmt.Sprintf(`{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition",
			"metadata":{"name":"n%d","namespace":"default"},"spec":{"config":%q}}`, i, config))
		if err != nil {
			return err
		}
	}
	return nil
}

// hostLocalDir is where both sides keep the addresses of their default network.
const hostLocalDir = "/run/host-local"

func hostLocal(subnet string) map[string]any {
	return map[string]any{"type": "host-local", "dataDir": hostLocalDir, "ranges": [][]map[string]string{{{"subnet": subnet}}}}
}

// bridge is the default network of both sides, but for the bridge and the subnet.
func bridge(name, subnet string) map[string]any {
	return map[string]any{"type": "bridge", "bridge": "br-" + name, "ipam": hostLocal(subnet)}
}

// start starts both sides, anew if they run, with what counts around them if so
// asked.
func (s *stand) start(ctx context.Context, counted bool) error {
	if err := s.stop(false); err != nil {
		return err
	}
	for _, begin := range []func(context.Context, *rest.Config, counting) (*side, error){s.startTendril, s.startMultus} {
		config, around := rest.CopyConfig(s.admin), counting{}
		if counted {
			var err error
			if around, err = s.count(fmt.Sprintf("bench-%d", len(s.sides))); err != nil {
				return err
			}
			config.Host = fmt.Sprintf("https://127.0.0.1:%d", around.proxy.Port())
		}
		one, err := begin(ctx, config, around)
		if err != nil {
			return errors.Join(err, around.close())
		}
		one.counting = around
		s.sides = append(s.sides, one)
	}
	return nil
}

// stop ends both sides. tail asks for the ends of their logs as errors.
func (s *stand) stop(tail bool) error {
	var errs []error
	for _, one := range s.sides {
		errs = append(errs, one.process.Stop(tail), one.close())
	}
	s.sides = nil
	return errors.Join(errs...)
}

func (s *stand) close(tail bool) error {
	err := s.stop(tail)
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
