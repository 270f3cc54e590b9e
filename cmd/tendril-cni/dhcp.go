package main

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// defaultSocket is where the reference's daemon, and ours, listens.
const defaultSocket = "/run/cni/dhcp.sock"

// dhcpPlugin is the ipam of leases, which a daemon keeps: ours (`dhcp daemon`, or
// tendrild) or the reference's, by the reference's protocol.
func dhcpPlugin() plugin {
	allocate := func(_ context.Context, c call) (*current.Result, error) {
		res := &current.Result{CNIVersion: current.ImplementedSpecVersion}
		return res, dhcpCall("DHCP.Allocate", c, res)
	}
	return plugin{
		add: allocate,
		check: func(ctx context.Context, c call) error {
			_, err := allocate(ctx, c)
			return err
		},
		del: func(_ context.Context, c call) error { return dhcpCall("DHCP.Release", c, &struct{}{}) },
		status: func(_ context.Context, c call) error {
			client, err := dhcpDial(c)
			if err != nil {
				return unavailable(err)
			}
			return client.Close()
		},
		gc:    func(context.Context, call) error { return nil }, // the daemon looks after its leases itself
		since: oldest,
	}
}

func dhcpSocket(c call) (string, error) {
	raw, err := ipamField(c, "daemonSocketPath")
	if err != nil || raw == "" {
		return defaultSocket, err
	}
	return raw, nil
}

func dhcpDial(c call) (*rpc.Client, error) {
	socket, err := dhcpSocket(c)
	if err != nil {
		return nil, err
	}
	client, err := rpc.DialHTTP("unix", socket)
	if err != nil {
		return nil, refusal.New("network configuration", "ipam.daemonSocketPath", socket, "the socket of a running DHCP daemon (`dhcp daemon`)").Because(err)
	}
	return client, nil
}

func dhcpCall(method string, c call, out any) error {
	client, err := dhcpDial(c)
	if err != nil {
		return err
	}
	args := *c.CmdArgs
	if args.Netns != "" {
		// The daemon has another working directory.
		if args.Netns, err = filepath.Abs(args.Netns); err != nil {
			return errors.Join(err, client.Close())
		}
	}
	if err := client.Call(method, &skel.CmdArgs{
		ContainerID: args.ContainerID, Netns: args.Netns, IfName: args.IfName, Args: args.Args, Path: args.Path, StdinData: args.StdinData,
	}, out); err != nil {
		return errors.Join(fmt.Errorf("ipam dhcp: %w", err), client.Close())
	}
	return client.Close()
}
