package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// EnvSocket names the gate of a running lab to programs outside of it.
const EnvSocket = "TENDRIL_LAB_SOCKET"

// A Gate is a unix socket in the file system through which programs outside a
// lab reach addresses inside. A caller sends one line, "host:port", gets one
// line, "ok" or what is wrong, and is connected.
type Gate struct{ listener net.Listener }

// OpenGate opens a gate of the lab that this process is in. Callers may connect
// from then on and are answered once it serves.
func OpenGate(socket string) (*Gate, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	return &Gate{listener}, nil
}

// Serve serves callers until ctx ends.
func (g *Gate) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = g.listener.Close() })()
	for {
		conn, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept at gate: %w", err)
		}
		go connect(ctx, conn)
	}
}

// connect serves one caller.
func connect(ctx context.Context, caller net.Conn) {
	defer func() { _ = caller.Close() }()
	reader := bufio.NewReader(caller)
	address, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	d := net.Dialer{Timeout: dialPatience, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 6,
	}}
	inside, err := d.DialContext(ctx, "tcp", strings.TrimSpace(address))
	if err != nil {
		_, _ = fmt.Fprintln(caller, err)
		return
	}
	defer func() { _ = inside.Close() }()
	if _, err := fmt.Fprintln(caller, "ok"); err != nil {
		return
	}
	splice(caller, reader, inside)
}

// dialPatience is how long an address inside may take to answer.
const dialPatience = 10 * time.Second

// splice copies both ways until both are done; an end that has said all it has
// to say may still listen.
func splice(caller net.Conn, fromCaller io.Reader, inside net.Conn) {
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(inside, fromCaller)
		closeWrite(inside)
	})
	both.Go(func() {
		_, err := io.Copy(caller, inside)
		if err != nil {
			// The far end is lost rather than finished: so must this one be.
			_ = caller.Close()
			return
		}
		closeWrite(caller)
	})
	both.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Dial connects from outside, through the gate at socket, to an address in the
// lab.
func Dial(ctx context.Context, socket, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("reach lab: %w", err)
	}
	if err := ask(ctx, conn, address); err != nil {
		return nil, errors.Join(fmt.Errorf("reach %s in lab: %w", address, err), conn.Close())
	}
	return conn, nil
}

// ask says where to go and reads the answer, byte by byte: what follows it
// belongs to the far end.
func ask(ctx context.Context, conn net.Conn, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintln(conn, address); err != nil {
		return err
	}
	var answer []byte
	var b [1]byte
	for {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return err
		}
		if b[0] == '\n' {
			break
		}
		answer = append(answer, b[0])
	}
	if string(answer) != "ok" {
		return errors.New(string(answer))
	}
	return nil
}

// Socket returns the gate of the running lab that the environment names, or "".
func Socket() string { return os.Getenv(EnvSocket) }
