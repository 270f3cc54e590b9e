package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// maxConnections bounds the calls that are served at a time. Further shims
	// wait in the listener's backlog, under their own deadlines.
	maxConnections = 256
	// introduction is how long a connected shim may take to send its request; it
	// has read its standard input before it connects.
	introduction = 10 * time.Second
	// farewell bounds the writing of the last frame to a shim that does not read.
	farewell = 10 * time.Second
	// acceptPause follows an accept that failed, most likely for want of file
	// descriptors, which come back when calls end.
	acceptPause = 100 * time.Millisecond
	// drain is how long calls may go on once the daemon is to stop. It is shorter
	// than what a DaemonSet's pod has until it is killed, less the time to undo.
	drain = 4 * time.Second
	// longestCall is the longest time that a shim may ask for.
	longestCall = time.Hour
)

// Handler answers calls.
type Handler interface {
	// Handle returns soon after ctx ended: by then the shim is about to give up,
	// or is gone, or the daemon stops and has waited for it. It may be called concurrently.
	Handle(ctx context.Context, call *Call) Reply
}

// Serve accepts shims on ln and has h answer them until ctx ends. It then closes
// ln, so that further shims wait for the next daemon, lets the calls that have
// begun go on for 4 s, ends the context of those that still do, and returns nil
// when all of them are answered. ln has to be of unix sockets. Refused peers and
// broken conversations are logged.
func Serve(ctx context.Context, ln net.Listener, h Handler, log *slog.Logger) error {
	s := server{handler: h, log: log, slots: make(chan struct{}, maxConnections)}
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		select {
		case <-time.After(drain):
			cut()
		case <-calls.Done():
		}
	})
	defer stop()
	defer s.calls.Wait()
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.Accept()
		switch {
		case err == nil:
			s.calls.Go(func() { s.converse(ctx, calls, conn); <-s.slots })
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		<-s.slots
		log.Warn("accept", "socket", ln.Addr().String(), "error", err)
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

type server struct {
	handler Handler
	log     *slog.Logger
	slots   chan struct{}
	calls   sync.WaitGroup
}

// converse has one conversation, and ends its connection. A peer that has said
// nothing yet when ctx ends is not waited for; a call has until calls ends.
func (s *server) converse(ctx, calls context.Context, c net.Conn) {
	defer c.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		s.log.Error("connection is not of a unix socket", "socket", c.LocalAddr().String())
		return
	}
	call, err := s.greet(ctx, conn)
	if err != nil {
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			s.log.Warn("call refused", "error", err)
		}
		return
	}
	if err := s.answer(calls, call); err != nil {
		s.log.Warn("call not answered", "call", call.ID, "container", call.ContainerID, "error", err)
	}
}

// greet reads and checks the request. What is refused is told to the shim too.
func (s *server) greet(ctx context.Context, conn *net.UnixConn) (*Call, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(introduction)); err != nil {
		return nil, err
	}
	call, err := receive(conn)
	if err != nil {
		// Best effort: whoever does not speak the protocol need not read it.
		_ = write(conn, kindFault, fault{Text: err.Error()})
		return nil, err
	}
	return call, conn.SetDeadline(time.Time{})
}

func receive(conn *net.UnixConn) (*Call, error) {
	if err := checkPeer(conn); err != nil {
		return nil, err
	}
	kind, data, netns, err := readFirst(conn)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	call := &Call{Netns: netns, conn: conn, results: make(chan ExecResult, 1), gone: make(chan struct{})}
	if kind != kindRequest {
		err = fmt.Errorf("read request: %w", errUnexpected)
	} else {
		err = decode(data, &call.Request)
	}
	if most := longestCall.Milliseconds(); err == nil && (call.TimeoutMillis <= 0 || call.TimeoutMillis > most) {
		err = fmt.Errorf("request: field timeoutMillis: value %d is not allowed; allowed: 1..%d", call.TimeoutMillis, most)
	}
	if err != nil {
		call.closeNetns()
		return nil, err
	}
	return call, nil
}

// answer runs the handler while a second goroutine listens to the shim.
func (s *server) answer(ctx context.Context, call *Call) error {
	defer call.closeNetns()
	wait := millis(call.TimeoutMillis)
	// A tenth is kept back for undoing what is half done and for the answer.
	ctx, cancel := context.WithTimeout(ctx, wait-wait/10)
	defer cancel()
	listener := make(chan struct{})
	go func() {
		defer close(listener)
		defer cancel()
		call.listen()
	}()
	reply := s.handler.Handle(ctx, call)
	err := call.conn.SetWriteDeadline(time.Now().Add(farewell))
	if err == nil {
		err = call.send(kindReply, reply)
	}
	// Ends listen, which may be waiting in a read.
	call.conn.Close()
	<-listener
	return err
}
