package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// endpoint keeps one resource known to the kubelet. It is level-triggered: at
// each wake it compares what is there (its socket, the kubelet's socket, the
// kubelet's stream) with what should be, and mends the difference. So a kubelet
// that starts late, restarts, empties its directory or forgets us needs no code
// path of its own.
type endpoint struct {
	resource Resource
	kubelet  kubelet
	feed     *feed
	log      *slog.Logger
	allocate func([]Allocation) error

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	// The rest belongs to run's goroutine.

	sock *socket
	// registered is the kubelet's socket that knows ours.
	registered identity
	// yield is until when nothing is put at the path.
	yield time.Time
	// lost is when the last stream of a registered socket ended.
	lost time.Time
	// retry is the pause before the next attempt after a failure, and told the
	// failure that was logged last.
	retry time.Duration
	told  string
}

const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = sweep
	// registerTimeout covers the kubelet's call back to our socket.
	registerTimeout = 10 * time.Second
	// streamGrace is how long the kubelet may be without a stream that it once
	// had before it is asked again; a restarting one comes back by itself.
	streamGrace = 2 * time.Second
)

// poke makes run look again; it never waits.
func (e *endpoint) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run keeps the endpoint up until ctx ends, then takes it down.
func (e *endpoint) run(ctx context.Context) {
	defer close(e.done)
	for ctx.Err() == nil {
		timer := time.NewTimer(e.step(ctx))
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	e.leave()
}

// step mends what it can and returns when to look again at the latest.
func (e *endpoint) step(ctx context.Context) time.Duration {
	wait, err := e.settle(ctx)
	if err == nil {
		e.retry, e.told = 0, ""
		return wait
	}
	if ctx.Err() == nil && err.Error() != e.told {
		e.told = err.Error()
		e.log.Warn("resource not registered, trying again", "resource", e.resource.String(), "error", err)
	}
	e.retry = min(max(2*e.retry, firstRetry), lastRetry)
	return e.retry
}

func (e *endpoint) settle(ctx context.Context) (time.Duration, error) {
	dir, watched := e.kubelet.place()
	path := filepath.Join(dir, e.resource.Prefix+"_"+e.resource.Name+".sock")
	e.check(path)
	if dir == "" {
		return sweep, nil
	}
	if rest := time.Until(e.yield); rest > 0 {
		return rest, nil
	}
	wait := e.supervise(watched)
	if e.sock == nil {
		sock, err := listen(e.service(path))
		if err != nil {
			// The attempt itself stirs the directory, which wakes us again.
			e.yield = time.Now().Add(firstRetry)
			return 0, err
		}
		e.sock = sock
		e.log.Info("resource socket ready", "resource", e.resource.String(), "path", path)
	}
	if watched {
		return wait, nil
	}
	return wait, e.register(ctx)
}

// check lets go of a socket that is in the wrong place, does not serve or is no
// longer there. Where another process has put its own, the path is left to it
// for a while: two that take it from each other at once would do nothing else,
// and the other may be the next instance of this program.
func (e *endpoint) check(path string) {
	if e.sock == nil {
		return
	}
	here, other := e.sock.placed()
	if here && e.sock.path == path && e.sock.serving() {
		return
	}
	if other {
		e.yield = time.Now().Add(sweep)
		e.log.Warn("socket was taken by another process", "resource", e.resource.String(), "path", e.sock.path)
	}
	e.leave()
}

func (e *endpoint) service(path string) *service {
	return &service{
		resource: e.resource.String(), path: path, feed: e.feed, log: e.log, allocate: e.allocate,
		stop: make(chan struct{}), ended: e.poke,
	}
}

// supervise notices that the kubelet has let go of the stream. After a grace it
// makes the kubelet look again: at a new socket, or by a new registration.
func (e *endpoint) supervise(watched bool) time.Duration {
	switch {
	case e.sock == nil || e.sock.heard.Load() == 0 || e.sock.streams.Load() > 0:
		e.lost = time.Time{}
		return sweep
	case e.lost.IsZero():
		e.lost = time.Now()
		return streamGrace
	case time.Since(e.lost) < streamGrace:
		return streamGrace - time.Since(e.lost)
	}
	e.log.Info("kubelet has dropped the resource, registering again", "resource", e.resource.String())
	e.lost = time.Time{}
	if watched {
		e.leave()
	} else {
		e.sock.heard.Store(0)
		e.registered = identity{}
	}
	return sweep
}

// register tells the kubelet about the socket, once for each socket of each of
// the two sides. No kubelet is no error: its socket will appear.
func (e *endpoint) register(ctx context.Context) error {
	there := identify(e.kubelet.server())
	if there == (identity{}) || there == e.registered {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+e.kubelet.server(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("register %s: %w", e.resource, err)
	}
	_, err = pluginapi.NewRegistrationClient(conn).Register(ctx, &pluginapi.RegisterRequest{
		Version:      pluginapi.Version,
		Endpoint:     filepath.Base(e.sock.path),
		ResourceName: e.resource.String(),
		Options:      options(),
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("register %s: %w", e.resource, err)
	}
	e.registered = there
	e.log.Info("resource registered", "resource", e.resource.String(), "mode", "legacy")
	return nil
}

// leave takes the socket down. Whoever listens next has to be registered anew.
func (e *endpoint) leave() {
	if e.sock != nil {
		e.sock.close()
	}
	e.sock, e.registered, e.lost = nil, identity{}, time.Time{}
}
