package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// dialPause lies between two attempts to connect.
const dialPause = 20 * time.Millisecond

// ErrLost says that the daemon went away before it answered.
var ErrLost = errors.New("daemon went away before it answered")

// ErrAbsent says that no daemon listens.
var ErrAbsent = errors.New("no daemon listens")

// Client has calls answered by the daemon.
type Client struct {
	// Socket is the path of the daemon's socket.
	Socket string
	// Patience is how long to go on connecting to a daemon that is not there,
	// since it may be restarting.
	Patience time.Duration
	// Repeat says that the call may be made again when the daemon goes away
	// before it answered; true for calls that come to the same when done twice.
	Repeat bool
}

// Call sends r, and netns with it unless that is nil, runs the plugins that the
// daemon asks for, and returns its reply. ctx has to have a deadline. The error
// wraps ErrAbsent when no daemon listened within Patience, ErrLost when it went
// away, *Refused when it would not hear the call, *VersionError when it is of
// another release, or is that of ctx. When Call returns, no plugin runs.
func (c Client) Call(ctx context.Context, r Request, netns *os.File) (Reply, error) {
	patience := time.Now().Add(c.Patience)
	for {
		reply, err := c.once(ctx, patience, r, netns)
		if !c.Repeat || !errors.Is(err, ErrLost) || time.Now().After(patience) || !sleep(ctx, dialPause) {
			return reply, err
		}
	}
}

func (c Client) once(ctx context.Context, patience time.Time, r Request, netns *os.File) (Reply, error) {
	conn, err := c.dial(ctx, patience)
	if err != nil {
		return Reply{}, fmt.Errorf("connect to %s: %w", c.Socket, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	r.TimeoutMillis = time.Until(deadline).Milliseconds()
	frame, err := encode(kindRequest, r)
	if err != nil {
		return Reply{}, fmt.Errorf("send request: %w", err)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	// A daemon that refuses may close before it has read all; its reason is
	// then still there to be read, and says more than the broken pipe.
	sendErr := writeWith(conn, frame, netns)
	talk := conversation{conn: conn}
	reply, err := talk.follow(ctx)
	if err != nil {
		return Reply{}, explain(ctx, err, sendErr)
	}
	return reply, nil
}

// explain sorts the ends of a conversation into those that Call promises.
func explain(ctx context.Context, err, sendErr error) error {
	var refused *Refused
	var version *VersionError
	switch {
	case errors.As(err, &refused), errors.As(err, &version), errors.Is(err, errUnexpected):
		return err
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("wait for the reply: %w", context.DeadlineExceeded)
	case sendErr != nil:
		err = sendErr
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// dial connects, again and again while there is no daemon yet.
func (c Client) dial(ctx context.Context, patience time.Time) (*net.UnixConn, error) {
	addr := &net.UnixAddr{Name: c.Socket, Net: "unix"}
	for {
		conn, err := net.DialUnix("unix", nil, addr)
		if err == nil {
			return conn, nil
		}
		if !mayCome(err) {
			return nil, err
		}
		if time.Now().After(patience) {
			return nil, fmt.Errorf("%w: %w", ErrAbsent, errors.Unwrap(err))
		}
		if !sleep(ctx, dialPause) {
			return nil, fmt.Errorf("%w: %w", ErrAbsent, ctx.Err())
		}
	}
}

// mayCome reports whether a daemon that starts would mend err: no socket yet, a
// stale one, or a full backlog (EAGAIN, connect(2)).
func mayCome(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN)
}

// conversation is the shim's side after the request was sent. It is used by one
// goroutine; the one that runs a plugin only writes the result.
type conversation struct {
	conn *net.UnixConn
	// stop kills the plugin that runs; done is closed when it has ended and its
	// result was sent. Both are nil before the first.
	stop context.CancelFunc
	done chan struct{}
}

// follow does what the daemon says until the reply.
func (c *conversation) follow(ctx context.Context) (Reply, error) {
	defer c.kill()
	for {
		kind, data, err := read(c.conn)
		if err != nil {
			return Reply{}, err
		}
		switch kind {
		case kindExec:
			var r ExecRequest
			if err := decode(data, &r); err != nil {
				return Reply{}, err
			}
			c.start(ctx, r)
		case kindCancel:
			if c.stop != nil {
				c.stop()
			}
		case kindReply:
			var r Reply
			return r, decode(data, &r)
		case kindFault:
			var f fault
			if err := decode(data, &f); err != nil {
				return Reply{}, err
			}
			return Reply{}, &Refused{Text: f.Text}
		default:
			return Reply{}, errUnexpected
		}
	}
}

// start runs r beside the reading of further frames.
func (c *conversation) start(ctx context.Context, r ExecRequest) {
	// The daemon asks only after the previous result; that goroutine is at its end.
	c.wait()
	if r.TimeoutMillis > 0 {
		ctx, c.stop = context.WithTimeout(ctx, millis(r.TimeoutMillis))
	} else {
		ctx, c.stop = context.WithCancel(ctx)
	}
	done := make(chan struct{})
	c.done = done
	go func() {
		defer close(done)
		// A result that cannot be sent means a lost connection, which the
		// reader sees.
		_ = write(c.conn, kindResult, Run(ctx, r))
	}()
}

func (c *conversation) wait() {
	if c.done != nil {
		<-c.done
		c.stop()
	}
}

// kill ends a plugin that still runs and waits for it. The connection is of no
// further use by then; closing it frees a write that nobody reads.
func (c *conversation) kill() {
	if c.stop != nil {
		c.stop()
	}
	c.conn.Close()
	c.wait()
}
