package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cmd/tendril-cni/state"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// ownIPAM are the ipam types that run in this process. What they hand out and
// keep is what the executables of those names hand out and keep.
func ownIPAM(kind string) (p plugin, vouched, ok bool) {
	switch kind {
	case "static":
		return static(), false, true
	case "host-local":
		return hostLocal(), true, true
	}
	return plugin{}, false, false
}

// runnable refuses an ipam type that is neither ours nor in CNI_PATH, before
// anything is recorded: nobody could ask it for its addresses back.
func runnable(kind, path string) error {
	if _, _, ok := ownIPAM(kind); ok || kind == "" {
		return nil
	}
	if _, err := find(kind, path); err != nil {
		return refusal.New("network configuration", "ipam.type", kind, "static, host-local, or the name of an executable in CNI_PATH").Because(err)
	}
	return nil
}

func (c call) ipamKind() (string, error) {
	_, kind, err := netconf.ParseIPAM(c.network.Plugins[0])
	return kind, err
}

// leaseFrom asks the configured ipam. An answer without addresses is an error,
// and what the ipam may have kept for it is given back by the undo.
func leaseFrom(ctx context.Context, c call) (lease, error) {
	kind, err := c.ipamKind()
	if err != nil {
		return lease{}, err
	}
	var l lease
	if p, vouched, ok := ownIPAM(kind); ok {
		l.vouched = vouched
		l.result, err = p.add(ctx, c)
	} else {
		l.result, err = execIPAM(ctx, kind, c)
	}
	if err == nil && len(l.result.IPs) == 0 {
		err = fmt.Errorf("ipam %s: it answered without an address", kind)
	}
	return l, err
}

func execIPAM(ctx context.Context, kind string, c call) (*current.Result, error) {
	printed, err := execute(ctx, kind, "ADD", c)
	if err != nil {
		return nil, err
	}
	out, err := decodeResult(printed, c.network.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("ipam %s: %w", kind, err)
	}
	return out, nil
}

// leaseOfChain takes over the addresses of the chain so far.
func leaseOfChain(c call) (lease, error) {
	res, err := c.prevResult()
	if err != nil || res == nil || len(res.IPs) == 0 {
		return lease{}, err
	}
	return lease{result: res}, nil
}

// release gives the addresses of a recorded attachment back, by the configuration
// of its ADD.
func release(ctx context.Context, e state.Entry) error {
	a := e.Record.Attachment
	args := &skel.CmdArgs{
		ContainerID: a.ContainerID, Netns: a.Netns.Path, IfName: a.IfName, Args: a.CNIArgs,
		Path: os.Getenv("CNI_PATH"), StdinData: e.Stdin,
	}
	c, err := read(args)
	if err != nil {
		return err
	}
	return delIPAM(ctx, c)
}

// releaseUnknown is release for an attachment without a record.
func releaseUnknown(ctx context.Context, c call) error {
	kind, err := c.ipamKind()
	if err != nil || kind == "" {
		return err
	}
	return delIPAM(ctx, c)
}

func delIPAM(ctx context.Context, c call) error {
	kind, err := c.ipamKind()
	if err != nil {
		return err
	}
	if p, _, ok := ownIPAM(kind); ok {
		return p.del(ctx, c)
	}
	_, err = execute(ctx, kind, "DEL", c)
	return err
}

func checkIPAM(ctx context.Context, c call) error {
	kind, err := c.ipamKind()
	if err != nil || kind == "" {
		return err
	}
	if p, _, ok := ownIPAM(kind); ok {
		return p.check(ctx, c)
	}
	_, err = execute(ctx, kind, "CHECK", c)
	return err
}

func statusIPAM(ctx context.Context, c call) error {
	kind, err := c.ipamKind()
	if err != nil || kind == "" {
		return err
	}
	if p, _, ok := ownIPAM(kind); ok {
		return p.status(ctx, c)
	}
	_, err = execute(ctx, kind, "STATUS", c)
	return err
}

// gcIPAM passes GC on. The reference's ipams have none and answer with an error
// of their own, which is no reason to fail: their addresses went with the
// attachments.
func gcIPAM(ctx context.Context, c call) error {
	kind, err := c.ipamKind()
	if err != nil || kind == "" {
		return err
	}
	if p, _, ok := ownIPAM(kind); ok {
		return p.gc(ctx, c)
	}
	_, err = execute(ctx, kind, "GC", c)
	return err
}

// askedIPs are the addresses asked for by capability, which beat those of
// args.cni; by CNI_ARGS are those of the runtime's IP=.
type askedIPs struct {
	runtime, args, env []string
}

func (c call) asked() (askedIPs, error) {
	g, err := c.given()
	return askedIPs{runtime: g.RuntimeConfig.IPs, args: g.Args.CNI.IPs, env: split(c.args["IP"])}, err
}

// all is every address asked for, each once.
func (a askedIPs) all() []string {
	var out []string
	for _, ip := range slices.Concat(a.env, a.args, a.runtime) {
		if !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out
}
