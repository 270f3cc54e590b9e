package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
)

// shimPart is what each shim takes of its own: from start to exit with a call
// that is answered at once, and with nothing to do.
var shimPart = part{
	Name: "the shims alone",
	Lines: []contest.Comparison{
		{Name: "shim, a call answered at once", Ours: "tendril shim", Reference: "multus shim"},
		{Name: "shim, VERSION", Ours: "tendril shim VERSION", Reference: "multus shim VERSION"},
	},
	Play: playShims,
}

const answer = `{"cniVersion":"` + host.CNIVersion + `"}`

// prompt answers every call of tendril's shim at once.
type prompt struct{}

// Handle implements rpc.Handler.
func (prompt) Handle(context.Context, *rpc.Call) rpc.Reply { return rpc.Reply{Stdout: []byte(answer)} }

func playShims(ctx context.Context, s *stand, rounds int) (samples contest.Samples, err error) {
	const dir = "/run/bench"
	socket := filepath.Join(dir, "shim.sock")
	ln, err := rpc.Listen(socket)
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(serving, ln, prompt{}, slog.New(slog.NewTextHandler(os.Stderr, nil))) }()
	defer func() { stop(); err = errors.Join(err, <-served) }()
	// Multus' protocol (its package server/api): any answer but an error is good
	// for readiness.
	other, err := net.Listen("unix", filepath.Join(dir, "multus.sock"))
	if err != nil {
		return nil, err
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cni" {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"Result":`+answer+`}`)
		}
	})}
	go func() { _ = server.Serve(other) }() // until Close
	defer server.Close()
	return s.shimTurns(ctx, rounds, map[string]string{
		"tendril": fmt.Sprintf(`{"cniVersion":%q,"name":"n","type":"t","socket":%q}`, host.CNIVersion, socket),
		"multus":  fmt.Sprintf(`{"cniVersion":%q,"name":"n","type":"t","daemonSocketDir":%q}`, host.CNIVersion, dir),
	})
}

func (s *stand) shimTurns(ctx context.Context, rounds int, confs map[string]string) (contest.Samples, error) {
	p, err := s.pods.Fresh()
	if err != nil {
		return nil, err
	}
	var turns []contest.Side
	for _, one := range s.sides {
		for series, command := range map[string]string{one.name + " shim": "ADD", one.name + " shim VERSION": "VERSION"} {
			turns = append(turns, func(ctx context.Context, _ int) ([]contest.Took, error) {
				_, took, err := one.caller.Call(ctx, command, p, "sandbox", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=p", []byte(confs[one.name]))
				return []contest.Took{{Series: series, Time: took}}, err
			})
		}
	}
	return contest.Play(ctx, rules(3*rounds), turns...)
}
