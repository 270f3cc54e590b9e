package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// ErrGone says that the shim is no longer there: killed by the runtime, or past
// its deadline. Its plugins are killed with it.
var ErrGone = errors.New("shim is gone")

// cancelGrace is how long Exec waits, after its context ended, to hear that the
// shim killed the plugin.
const cancelGrace = 5 * time.Second

// Call is one CNI call on the daemon's side.
type Call struct {
	Request
	// Netns is the namespace at NetnsPath, nil if the shim could not open it. It
	// is closed when Handle returns.
	Netns *os.File

	conn    *net.UnixConn
	results chan ExecResult
	// gone is closed when nothing more will come from the shim.
	gone chan struct{}
	// exec serialises Exec (invariant 4). It is held until the shim has told how
	// the run ended.
	exec sync.Mutex
	// sending keeps frames whole.
	sending sync.Mutex
}

// Exec has the shim run r and returns how it ended. A plugin that could not be
// run or was killed is a result with Error set; the error is ErrGone (wrapped)
// when the shim is no longer there, or that of ctx, and then the plugin is dead
// too. ctx need not be the call's own: an undo may outlive it by a little.
func (c *Call) Exec(ctx context.Context, r ExecRequest) (ExecResult, error) {
	res, err := c.run(ctx, r)
	if err != nil {
		return ExecResult{}, fmt.Errorf("exec %s: %w", r.Plugin, err)
	}
	return res, nil
}

func (c *Call) run(ctx context.Context, r ExecRequest) (ExecResult, error) {
	c.exec.Lock()
	defer c.exec.Unlock()
	if err := ctx.Err(); err != nil {
		return ExecResult{}, err
	}
	if err := c.send(kindExec, r); err != nil {
		return ExecResult{}, errors.Join(ErrGone, err)
	}
	select {
	case res := <-c.results:
		return res, nil
	case <-c.gone:
		return ExecResult{}, ErrGone
	case <-ctx.Done():
		return ExecResult{}, errors.Join(ctx.Err(), c.cancel())
	}
}

// cancel has the running plugin killed. A shim that does not confirm is cut off:
// it kills the plugin when it sees the end of the connection.
func (c *Call) cancel() error {
	if err := c.send(kindCancel, nil); err != nil {
		return errors.Join(ErrGone, err)
	}
	select {
	case <-c.results:
		return nil
	case <-c.gone:
		return ErrGone
	case <-time.After(cancelGrace):
		c.conn.Close()
		return fmt.Errorf("cancel: no answer within %v: %w", cancelGrace, ErrGone)
	}
}

// listen receives what the shim sends, until the connection ends or the shim
// sends what makes no sense.
func (c *Call) listen() {
	defer close(c.gone)
	for {
		kind, data, err := read(c.conn)
		if err != nil || kind != kindResult {
			return
		}
		var r ExecResult
		if decode(data, &r) != nil {
			return
		}
		select {
		case c.results <- r:
		default:
			return // a result that nobody asked for
		}
	}
}

func (c *Call) send(kind byte, v any) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return write(c.conn, kind, v)
}

func (c *Call) closeNetns() {
	if c.Netns != nil {
		c.Netns.Close()
	}
}
