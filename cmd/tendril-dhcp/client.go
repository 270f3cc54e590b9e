package main

import (
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

func allocate(c call) (*current.Result, error) {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	return res, ask("DHCP.Allocate", c, res)
}

func release(c call) error { return ask("DHCP.Release", c, &struct{}{}) }

func socketOf(c call) (string, error) {
	raw, err := c.text("daemonSocketPath")
	if err != nil || raw == "" {
		return defaultSocket, err
	}
	return raw, nil
}

func dial(c call) (*rpc.Client, error) {
	socket, err := socketOf(c)
	if err != nil {
		return nil, err
	}
	client, err := rpc.DialHTTP("unix", socket)
	if err != nil {
		return nil, refusal.New("network configuration", "ipam.daemonSocketPath", socket, "the socket of a running DHCP daemon (`dhcp daemon`)").Because(err)
	}
	return client, nil
}

// ask makes a call of the daemon, wherever it has its working directory.
func ask(method string, c call, out any) error {
	client, err := dial(c)
	if err != nil {
		return err
	}
	args := *c.CmdArgs
	if args.Netns != "" {
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
