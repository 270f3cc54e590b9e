package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

func split(list string) []string {
	var out []string
	for _, s := range strings.Split(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// parseIPAM reads the ipam object; the executables of ipam types are given the
// whole configuration of the link, and on their own its ipam may be theirs.
func parseIPAM(c call) (ipam.Config, error) {
	raw, kind, err := netconf.ParseIPAM(c.network.Plugins[0])
	if err != nil {
		return ipam.Config{}, err
	}
	if kind == "" {
		return ipam.Config{}, refusal.New("network configuration", "ipam", "", "an ipam object")
	}
	cfg, err := ipam.Parse(raw)
	return cfg, refusal.Name(err, "network configuration")
}

// static is the ipam of addresses that the configuration names. It keeps nothing.
func static() plugin {
	parse := func(_ context.Context, c call) error {
		_, err := parseIPAM(c)
		return err
	}
	return plugin{
		add:   func(_ context.Context, c call) (*current.Result, error) { return staticLease(c) },
		check: func(_ context.Context, c call) error { return staticCheck(c) },
		del:   parse, status: func(ctx context.Context, c call) error { return cni.Unavailable(cannotAdd, parse(ctx, c)) },
		gc: parse, since: oldest,
	}
}

func staticLease(c call) (*current.Result, error) {
	cfg, err := parseIPAM(c)
	if err != nil {
		return nil, err
	}
	asked, err := c.asked()
	if err != nil {
		return nil, err
	}
	ips := asked.runtime
	if len(ips) == 0 {
		ips = asked.args
	}
	if len(ips) == 0 && len(asked.env) > 0 && cfg.Static != nil {
		// Those of CNI_ARGS come on top of the configured ones.
		for _, a := range cfg.Static.Addresses {
			ips = append(ips, a.Prefix.String())
		}
		ips = append(ips, asked.env...)
	}
	wanted, err := ipam.ParseAsked(ips)
	if err != nil {
		return nil, err
	}
	l, err := ipam.Reserve(nil, c.network.Name, cfg, ipam.Owner{Container: c.ContainerID, IfName: c.IfName}, wanted)
	if err != nil {
		return nil, refusal.Name(err, "network configuration")
	}
	for _, text := range split(c.args["GATEWAY"]) {
		gw, err := netip.ParseAddr(text)
		if err != nil {
			return nil, refusal.New("CNI_ARGS", "GATEWAY", text, "an IP address").Because(err)
		}
		// It is for the addresses that came with it.
		for i, a := range l.Addresses {
			if slices.Contains(asked.env, a.Prefix.String()) && a.Prefix.Masked().Contains(gw) {
				l.Addresses[i].Gateway = gw
			}
		}
	}
	return leaseResult(l), nil
}

// staticCheck compares the gateways of the configured addresses.
func staticCheck(c call) error {
	res, err := c.prevResult()
	cfg, cfgErr := parseIPAM(c)
	if err = errors.Join(err, cfgErr); err != nil {
		return err
	}
	if res == nil {
		return errNoPrevious("CHECK of static")
	}
	for _, a := range cfg.Static.Addresses {
		for _, ip := range res.IPs {
			if ip.Address.IP.Equal(a.Prefix.Addr().AsSlice()) && a.Gateway.IsValid() && !ip.Gateway.Equal(a.Gateway.AsSlice()) {
				return fmt.Errorf("check %s: gateway of %s is %s, configured is %s", c.IfName, ip.Address.IP, ip.Gateway, a.Gateway)
			}
		}
	}
	return nil
}

// leaseResult is a lease as a CNI result.
func leaseResult(l ipam.Lease) *current.Result {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, DNS: types.DNS(l.DNS)}
	for _, a := range l.Addresses {
		ip := &current.IPConfig{Address: ipNet(a.Prefix)}
		if a.Gateway.IsValid() {
			ip.Gateway = a.Gateway.AsSlice()
		}
		res.IPs = append(res.IPs, ip)
	}
	for _, r := range l.Routes {
		out := &types.Route{Dst: ipNet(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope}
		if r.Via.IsValid() {
			out.GW = r.Via.AsSlice()
		}
		res.Routes = append(res.Routes, out)
	}
	return res
}

func (c call) owner() ipam.Owner {
	return ipam.Owner{Container: c.ContainerID, IfName: c.IfName}
}
