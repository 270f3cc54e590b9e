package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// verbServe is the verb of the process inside; people do not type it.
const verbServe = "serve-inside"

// readyLine is what the process inside prints once its machines are up.
const readyLine = "ready"

// running is a lab of this process's own.
type running struct {
	socket string
	stop   func() error
}

// serve is the process inside: it boots machines and opens the gate. It ends
// when ctx does, or when whoever started it closes its standard input.
func serve(ctx context.Context, args []string) error {
	if len(args) != 2 || !lab.Inside() {
		return errors.New("this verb is for the lab's own use")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	boots, bootCtx := errgroup.WithContext(ctx)
	for index := 1; index <= count; index++ {
		boots.Go(func() error {
			_, err := machine.Boot(bootCtx, machine.Options{Index: index})
			return err
		})
	}
	if err := boots.Wait(); err != nil {
		return err
	}
	gate, err := lab.OpenGate(args[0])
	if err != nil {
		return err
	}
	fmt.Println(readyLine)
	return gate.Serve(ctx)
}

// start boots a lab with count machines. What machines need is fetched first,
// outside, since the inside has no network.
func start(ctx context.Context, count int) (*running, error) {
	if count < 1 || count > machine.MaxMachines {
		return nil, fmt.Errorf("start lab: number of machines %d is not between 1 and %d", count, machine.MaxMachines)
	}
	if err := machine.Fetch(ctx); err != nil {
		return nil, err
	}
	socket, err := socketPath()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	cmd := lab.Command(context.WithoutCancel(ctx), verbServe, socket, strconv.Itoa(count))
	cmd.Stderr = os.Stderr
	// A terminal's interrupt is for the program beside the lab; the lab ends
	// after it.
	cmd.SysProcAttr.Setpgid = true
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	wait, err := lab.Start(cmd)
	if err != nil {
		return nil, err
	}
	stop := func() error {
		_ = stdin.Close()
		err := wait()
		_ = os.Remove(socket)
		return err
	}
	line, err := firstLine(ctx, bufio.NewReader(stdout))
	if err != nil || line != readyLine {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = stop()
		return nil, errors.Join(errors.New("start lab: no machine"), ctx.Err())
	}
	fmt.Fprintf(os.Stderr, "lab: %d machine(s) ready (%s)\n", count, time.Since(began).Round(100*time.Millisecond))
	return &running{socket: socket, stop: stop}, nil
}

// firstLine reads a line or gives up with ctx.
func firstLine(ctx context.Context, r *bufio.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := r.ReadString('\n')
		read <- result{strings.TrimSpace(line), err}
	}()
	select {
	case got := <-read:
		return got.line, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// longestSocket is how long the path of a unix socket may be.
const longestSocket = 107

// socketPath chooses a place for the gate: in the cache folder, whose sockets of
// dead processes are swept, or, where that path is too long, in the temporary
// folder.
func socketPath() (string, error) {
	root, err := cache.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	sweep(dir)
	path := filepath.Join(dir, strconv.Itoa(os.Getpid())+".sock")
	if len(path) > longestSocket {
		path = filepath.Join(os.TempDir(), filepath.Base(path))
	}
	return path, nil
}

// sweep removes the sockets of labs that were killed: nobody answers at them.
func sweep(dir string) {
	sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
	for _, s := range sockets {
		conn, err := net.Dial("unix", s)
		switch {
		case err == nil:
			_ = conn.Close()
		case errors.Is(err, syscall.ECONNREFUSED):
			_ = os.Remove(s)
		}
	}
}

// join returns the gate of the lab that the environment names, or of a new one
// with count machines, and what to do when it is no longer needed.
func join(ctx context.Context, count int) (socket string, leave func(), err error) {
	if socket := lab.Socket(); socket != "" {
		return socket, func() {}, nil
	}
	own, err := start(ctx, count)
	if err != nil {
		return "", nil, err
	}
	return own.socket, func() {
		if err := own.stop(); err != nil {
			fmt.Fprintf(os.Stderr, "lab: stop lab: %v\n", err)
		}
	}, nil
}

// client talks to machine index through a gate.
func client(socket string, index int) *machine.Client {
	return machine.NewClient(func(ctx context.Context) (net.Conn, error) {
		return lab.Dial(ctx, socket, machine.AgentAddress(index))
	})
}
