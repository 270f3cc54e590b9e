package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tendril-cni/tendril/cni/rpc"
)

func TestCallCarriesRequestNamespaceAndReply(t *testing.T) {
	var got rpc.Request
	var inode uint64
	socket := serve(t, func(_ context.Context, c *rpc.Call) rpc.Reply {
		got = c.Request
		inode = inodeOf(t, c.Netns)
		return rpc.Reply{Stdout: []byte("result\n"), ExitCode: 7}
	})
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	want := rpc.Request{
		ID: "id", Command: "ADD", ContainerID: "c1", IfName: "eth0", NetnsPath: "/run/netns/x", Args: "A=B", Path: "/bin",
		// Longer than a socket's buffer: the descriptor must still come with it.
		StdinData: bytes.Repeat([]byte("x"), 3<<20),
		Env:       map[string]string{"CNI_OTHER": "1"},
	}
	reply, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), want, netns)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal), cmpopts.IgnoreFields(rpc.Request{}, "TimeoutMillis")); diff != "" {
		t.Errorf("request (-sent +received):\n%s", diff)
	}
	if got.TimeoutMillis <= 0 || got.TimeoutMillis > patience.Milliseconds() {
		t.Errorf("timeoutMillis %d, want what is left of %v", got.TimeoutMillis, patience)
	}
	if inode != inodeOf(t, netns) {
		t.Errorf("the daemon received inode %d, sent was %d", inode, inodeOf(t, netns))
	}
	if diff := cmp.Diff(rpc.Reply{Stdout: []byte("result\n"), ExitCode: 7}, reply); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
}

func TestNamespaceIsClosedWhenTheCallIsAnswered(t *testing.T) {
	var netns *os.File
	socket := serve(t, func(_ context.Context, c *rpc.Call) rpc.Reply {
		netns = c.Netns
		return rpc.Reply{}
	})
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := (rpc.Client{Socket: socket}).Call(deadline(t, patience), rpc.Request{Command: "ADD"}, f); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the descriptor is closed", func() bool {
		_, err := netns.Stat()
		return errors.Is(err, os.ErrClosed)
	})
}

func TestManyCallsAtATime(t *testing.T) {
	socket := serve(t, echo)
	var group sync.WaitGroup
	for i := range 400 {
		group.Go(func() {
			text := fmt.Sprint(i)
			reply, err := rpc.Client{Socket: socket, Patience: patience}.Call(deadline(t, patience), rpc.Request{StdinData: []byte(text)}, nil)
			if err != nil || string(reply.Stdout) != text {
				t.Errorf("call %d: reply %q, error %v", i, reply.Stdout, err)
			}
		})
	}
	group.Wait()
}

func TestDaemonAbsent(t *testing.T) {
	dir := shortDir(t)
	stale := filepath.Join(dir, "stale.sock")
	ln, err := rpc.Listen(stale)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, socket := range []string{filepath.Join(dir, "none.sock"), stale} {
		_, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{}, nil)
		if !errors.Is(err, rpc.ErrAbsent) || !strings.Contains(err.Error(), socket) {
			t.Errorf("error %v, want one that is ErrAbsent and names %s", err, socket)
		}
		// The deadline counts also where it comes before the patience's end.
		_, err = rpc.Client{Socket: socket, Patience: time.Hour}.Call(deadline(t, 50*time.Millisecond), rpc.Request{}, nil)
		if !errors.Is(err, rpc.ErrAbsent) {
			t.Errorf("error %v, want ErrAbsent", err)
		}
	}
}

func TestDaemonThatComesLate(t *testing.T) {
	socket := filepath.Join(shortDir(t), "tendril.sock")
	type outcome struct {
		reply rpc.Reply
		err   error
	}
	answered := make(chan outcome)
	go func() {
		reply, err := rpc.Client{Socket: socket, Patience: patience}.Call(deadline(t, patience), rpc.Request{StdinData: []byte("x")}, nil)
		answered <- outcome{reply, err}
	}()
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- rpc.Serve(ctx, ln, handler(echo), discard) }()
	if o := <-answered; o.err != nil || string(o.reply.Stdout) != "x" {
		t.Errorf("reply %q, error %v", o.reply.Stdout, o.err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A daemon that goes away in the middle: what may be repeated is, an ADD is not.
func TestDaemonThatGoesAway(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		t.Run(fmt.Sprintf("repeat=%v", repeat), func(t *testing.T) {
			dir := shortDir(t)
			socket := filepath.Join(dir, "tendril.sock")
			pids := endless(t, dir)
			daemon, out := play(t, "daemon", 0, socket, dir)
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			type outcome struct {
				reply rpc.Reply
				err   error
			}
			answered := make(chan outcome, 1)
			go func() {
				client := rpc.Client{Socket: socket, Patience: patience, Repeat: repeat}
				reply, err := client.Call(deadline(t, patience), rpc.Request{StdinData: []byte("x")}, nil)
				answered <- outcome{reply, err}
			}()
			running := processes(t, pids)
			if err := daemon.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			var o outcome
			if repeat {
				succeed(t, socket)
				o = <-answered
				if o.err != nil || string(o.reply.Stdout) != "x" {
					t.Errorf("reply %q, error %v; want the successor's", o.reply.Stdout, o.err)
				}
			} else if o = <-answered; !errors.Is(o.err, rpc.ErrLost) {
				t.Errorf("error %v, want ErrLost", o.err)
			}
			for _, pid := range running {
				eventually(t, "the plugin is dead", func() bool { return !alive(pid) })
			}
		})
	}
}

// succeed serves echo on socket, which another daemon left.
func succeed(t *testing.T, socket string) {
	t.Helper()
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(ctx, ln, handler(echo), discard) }()
	t.Cleanup(func() { cancel(); <-served })
}

func inodeOf(t *testing.T, f *os.File) uint64 {
	t.Helper()
	if f == nil {
		t.Error("no descriptor")
		return 0
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}
