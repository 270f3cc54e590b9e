package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
)

// shimPart is the shim without the daemon's work: from start to exit with a call
// that is answered at once. Beside it, the start and end of a reference plugin
// that has nothing to do.
var shimPart = part{
	Name: "the shim alone",
	Lines: []contest.Comparison{
		{Name: "shim with a call answered at once, to reference macvlan VERSION", Ours: "shim call", Reference: "reference VERSION"},
		{Name: "shim VERSION, to reference macvlan VERSION", Ours: "shim VERSION", Reference: "reference VERSION"},
	},
	Play: playShim,
}

// prompt answers every call at once.
type prompt struct{}

// Handle implements rpc.Handler.
func (prompt) Handle(context.Context, *rpc.Call) rpc.Reply {
	return rpc.Reply{Stdout: []byte(`{"cniVersion":"` + host.CNIVersion + `"}`)}
}

func playShim(ctx context.Context, s *stand, rounds int) (samples contest.Samples, err error) {
	socket := filepath.Join("/run/bench", "shim.sock")
	ln, err := rpc.Listen(socket)
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(serving, ln, prompt{}, slog.New(slog.NewTextHandler(os.Stderr, nil))) }()
	samples, err = s.shimTurns(ctx, rounds, socket)
	stop()
	return samples, errors.Join(err, <-served)
}

func (s *stand) shimTurns(ctx context.Context, rounds int, socket string) (contest.Samples, error) {
	p, err := s.pods.Fresh()
	if err != nil {
		return nil, err
	}
	conf := fmt.Appendf(nil, `{"cniVersion":%q,"name":"tendril","type":"tendril","socket":%q}`, host.CNIVersion, socket)
	shim := host.Caller{Plugin: s.daemon.Caller.Plugin, Conf: conf, Path: s.plugins, IfName: ifName}
	reference := host.Caller{Plugin: filepath.Join(s.plugins, "macvlan"), Conf: conf, Path: s.plugins, IfName: ifName}
	turn := func(series, command string, c host.Caller) contest.Side {
		return func(ctx context.Context, _ int) ([]contest.Took, error) {
			_, took, err := c.Call(ctx, command, p, "sandbox", "", c.Conf)
			return []contest.Took{{Series: series, Time: took}}, err
		}
	}
	return contest.Play(ctx, rules(rounds), turn("shim call", "ADD", shim), turn("shim VERSION", "VERSION", shim), turn("reference VERSION", "VERSION", reference))
}
