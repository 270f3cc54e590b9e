package rpc_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// The test binary plays the other process of a conversation when this is set.
const roleVariable = "TENDRIL_RPC_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "daemon":
		playDaemon(os.Args[1], os.Args[2])
	case "shim":
		playShim(os.Args[1], os.Args[2])
	}
}

// playDaemon has every call's shim run a plugin of dir that never ends.
func playDaemon(socket, dir string) {
	ln, err := rpc.Listen(socket)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	h := handler(func(ctx context.Context, c *rpc.Call) rpc.Reply {
		_, err := c.Exec(ctx, rpc.ExecRequest{Plugin: "endless", Dirs: []string{dir}})
		return rpc.Reply{Stdout: []byte(fmt.Sprint(err))}
	})
	_ = rpc.Serve(context.Background(), ln, h, discard)
}

// playShim makes one call and prints what came of it.
func playShim(socket, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := rpc.Client{Socket: socket}.Call(ctx, rpc.Request{ID: id, Command: "ADD"}, nil)
	fmt.Printf("reply %q error %v\n", reply.Stdout, err)
}

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

type handler func(context.Context, *rpc.Call) rpc.Reply

func (h handler) Handle(ctx context.Context, c *rpc.Call) rpc.Reply { return h(ctx, c) }

func echo(_ context.Context, c *rpc.Call) rpc.Reply { return rpc.Reply{Stdout: c.StdinData} }

// serve serves h until the test ends and returns the socket's path.
func serve(t *testing.T, h handler) string {
	t.Helper()
	socket := filepath.Join(shortDir(t), "run", "tendril.sock")
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, ln, h, discard) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

// shortDir is a directory whose sockets' paths fit sun_path (108 bytes).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// plugin writes a shell script to dir.
func plugin(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// endless makes a plugin that never ends, nor does its child, and returns the
// file into which it writes both their process ids.
func endless(t *testing.T, dir string) string {
	t.Helper()
	pids := filepath.Join(dir, "pids")
	plugin(t, dir, "endless", "sleep 1000 &\necho $$ $! > "+pids+".new\nmv "+pids+".new "+pids+"\nwait\n")
	return pids
}

// processes waits until file has process ids and returns them.
func processes(t *testing.T, file string) []int {
	t.Helper()
	var data []byte
	eventually(t, "the plugin has started", func() bool {
		var err error
		data, err = os.ReadFile(file)
		return err == nil
	})
	return processesIn(t, string(data))
}

func processesIn(t *testing.T, text string) []int {
	t.Helper()
	var pids []int
	for _, f := range strings.Fields(text) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// alive reports whether pid runs; a zombie does not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// play starts this binary in another role, as uid, and returns it with its
// output.
func play(t *testing.T, role string, uid uint32, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

// needRoot skips where the test cannot be run; in CI that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, and in CI nothing is skipped")
	}
	t.Skip("needs root to start a process of another user")
}
