package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/hostlocal"
)

// hostLocal is the ipam of addresses kept in this node's files.
func hostLocal() plugin {
	return plugin{
		add:    hostLocalLease,
		del:    hostLocalRelease,
		check:  func(_ context.Context, c call) error { return hostLocalCheck(c) },
		status: func(_ context.Context, c call) error { return cni.Unavailable(cannotAdd, hostLocalStatus(c)) },
		gc:     hostLocalGC,
		since:  oldest,
	}
}

// hostLocalConfig reads the configuration with the ranges of the capability
// ipRanges before its own.
func hostLocalConfig(c call) (*ipam.HostLocal, error) {
	raw, err := withRanges(c)
	if err != nil {
		return nil, err
	}
	c.network.Plugins = append(c.network.Plugins[:0:0], c.network.Plugins[0])
	c.network.Plugins[0].Raw = raw
	cfg, err := parseIPAM(c)
	if err != nil {
		return nil, err
	}
	if cfg.HostLocal == nil {
		return nil, refusal.New("network configuration", "ipam.type", cfg.Type, "host-local")
	}
	return cfg.HostLocal, nil
}

func withRanges(c call) (json.RawMessage, error) {
	raw := c.network.Plugins[0].Raw
	var conf struct {
		RuntimeConfig struct {
			IPRanges []json.RawMessage `json:"ipRanges"`
		} `json:"runtimeConfig"`
		IPAM map[string]json.RawMessage `json:"ipam"`
	}
	if err := json.Unmarshal(raw, &conf); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	if len(conf.RuntimeConfig.IPRanges) == 0 || conf.IPAM == nil {
		return raw, nil
	}
	var own []json.RawMessage
	if r, ok := conf.IPAM["ranges"]; ok {
		if err := json.Unmarshal(r, &own); err != nil {
			return nil, refusal.New("network configuration", "ipam.ranges", string(r), "a list of lists of ranges").Because(err)
		}
	}
	ranges, err := json.Marshal(append(conf.RuntimeConfig.IPRanges, own...))
	if err != nil {
		return nil, fmt.Errorf("encode ranges: %w", err)
	}
	conf.IPAM["ranges"] = ranges
	return json.Marshal(map[string]any{"ipam": conf.IPAM})
}

func (c call) store(h *ipam.HostLocal) *hostlocal.Store {
	return hostlocal.At(h.Dir(), c.network.Name)
}

func hostLocalLease(ctx context.Context, c call) (*current.Result, error) {
	h, err := hostLocalConfig(c)
	if err != nil {
		return nil, err
	}
	asked, err := c.asked()
	if err != nil {
		return nil, err
	}
	wanted, err := ipam.ParseAsked(asked.all())
	if err != nil {
		return nil, refusal.Name(err, "network configuration")
	}
	var dns ipam.DNS
	if h.ResolvConf != "" {
		data, err := os.ReadFile(h.ResolvConf)
		if err != nil {
			return nil, refusal.New("network configuration", "ipam.resolvConf", h.ResolvConf, "a file that can be read").Because(err)
		}
		dns = ipam.ParseResolvConf(data)
	}
	addrs, err := c.store(h).Reserve(ctx, h.Sets, c.owner(), wanted)
	if err != nil {
		return nil, tryAgain(refusal.Name(err, "network configuration"))
	}
	return leaseResult(ipam.Lease{Addresses: addrs, Routes: h.Routes, DNS: dns}), nil
}

// tryAgain gives a used-up range the code of what may pass.
func tryAgain(err error) error {
	if errors.Is(err, ipam.ErrExhausted) {
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	return err
}

func hostLocalRelease(ctx context.Context, c call) error {
	h, err := hostLocalConfig(c)
	if err != nil {
		return err
	}
	return c.store(h).Release(ctx, c.owner())
}

func hostLocalCheck(c call) error {
	h, err := hostLocalConfig(c)
	if err != nil {
		return err
	}
	ok, err := c.store(h).Holds(c.owner())
	if err == nil && !ok {
		err = fmt.Errorf("check %s: container %s has no address in network %s", c.IfName, c.ContainerID, c.network.Name)
	}
	return err
}

func hostLocalStatus(c call) error {
	h, err := hostLocalConfig(c)
	if err != nil {
		return err
	}
	return c.store(h).Make()
}

func hostLocalGC(ctx context.Context, c call) error {
	h, err := hostLocalConfig(c)
	if err != nil {
		return err
	}
	valid, err := validAttachments(c)
	if err != nil {
		return err
	}
	var owners []ipam.Owner
	for v := range valid {
		owners = append(owners, ipam.Owner{Container: v[0], IfName: v[1]})
	}
	_, err = c.store(h).Keep(ctx, owners)
	return err
}
