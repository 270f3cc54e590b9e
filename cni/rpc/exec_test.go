package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/rpc"
)

func TestExecRunsThePluginWhereTheShimStands(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	t.Setenv("CNI_PATH", other)
	t.Setenv("CNI_COMMAND", "of the shim")
	t.Setenv("OF_THE_RUNTIME", "kept")
	plugin(t, dir, "p", `cat; echo "$CNI_COMMAND|$CNI_PATH|$OF_THE_RUNTIME|$MINE"; echo oops >&2; exit 3`)
	plugin(t, other, "q", "echo q")
	var first, second rpc.ExecResult
	socket := serve(t, func(ctx context.Context, c *rpc.Call) rpc.Reply {
		var err error
		if first, err = c.Exec(ctx, rpc.ExecRequest{Plugin: "p", Dirs: []string{dir}, Stdin: []byte("in\n"), Env: []string{"CNI_COMMAND=ADD", "MINE=1"}}); err != nil {
			t.Error(err)
		}
		if second, err = c.Exec(ctx, rpc.ExecRequest{Plugin: "q"}); err != nil {
			t.Error(err)
		}
		return rpc.Reply{Stdout: []byte("done")}
	})
	reply, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{Command: "ADD"}, nil)
	if err != nil || string(reply.Stdout) != "done" {
		t.Fatalf("reply %q, error %v", reply.Stdout, err)
	}
	want := rpc.ExecResult{Stdout: []byte("in\nADD|" + dir + ":" + other + "|kept|1\n"), Stderr: []byte("oops\n"), ExitCode: 3}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("plugin of the daemon's directory (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rpc.ExecResult{Stdout: []byte("q\n")}, second); diff != "" {
		t.Errorf("plugin of the runtime's directory (-want +got):\n%s", diff)
	}
}

func TestRunLooksOnlyInItsDirectories(t *testing.T) {
	root := t.TempDir()
	dir, outside := filepath.Join(root, "bin"), filepath.Join(root, "outside")
	for _, d := range []string{dir, outside, filepath.Join(dir, "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		plugin(t, d, "p", "echo "+d)
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CNI_PATH", "relative")
	for name, want := range map[string]string{
		"p":                         dir + "\n",
		filepath.Join(dir, "p"):     dir + "\n",
		"":                          "is not allowed",
		".":                         "is not allowed",
		"..":                        "is not allowed",
		"sub":                       "is not allowed", // a directory
		"sub/p":                     "a file name without a directory",
		"../outside/p":              "a file name without a directory",
		filepath.Join(outside, "p"): "an executable in " + dir,
		dir + "/../outside/p":       "an executable in " + dir,
		dir + "/sub/p":              "an executable in " + dir,
		"absent":                    `value "absent" is not allowed; allowed: an executable in ` + dir,
		"plain":                     "permission denied",
	} {
		res := rpc.Run(t.Context(), rpc.ExecRequest{Plugin: name, Dirs: []string{dir}})
		if strings.HasPrefix(want, "/") {
			if string(res.Stdout) != want || res.ExitCode != 0 {
				t.Errorf("%q: %+v, want output %q", name, res, want)
			}
		} else if !strings.Contains(res.Error, want) || res.ExitCode != -1 {
			t.Errorf("%q: %+v, want error %q", name, res, want)
		}
	}
}

func TestRunWaitsForAPluginThatIsBeingReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "busy")
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // ETXTBSY as long as it is open
	if err != nil {
		t.Fatal(err)
	}
	if res := rpc.Run(deadline(t, 10*time.Millisecond), rpc.ExecRequest{Plugin: "busy", Dirs: []string{dir}}); !strings.Contains(res.Error, "text file busy") {
		t.Errorf("result %+v, want an error that says why", res)
	}
	done := make(chan rpc.ExecResult)
	go func() { done <- rpc.Run(context.Background(), rpc.ExecRequest{Plugin: "busy", Dirs: []string{dir}}) }()
	f.Close()
	if res := <-done; res.Error != "" || res.ExitCode != 0 {
		t.Errorf("result %+v", res)
	}
}

func TestRunBoundsOutput(t *testing.T) {
	dir := t.TempDir()
	plugin(t, dir, "loud", "head -c 5000000 /dev/zero")
	plugin(t, dir, "plaintive", "head -c 5000000 /dev/zero >&2; echo ok")
	if res := rpc.Run(t.Context(), rpc.ExecRequest{Plugin: "loud", Dirs: []string{dir}}); !strings.Contains(res.Error, "more than 4194304 bytes") {
		t.Errorf("error %q", res.Error)
	}
	res := rpc.Run(t.Context(), rpc.ExecRequest{Plugin: "plaintive", Dirs: []string{dir}})
	if string(res.Stdout) != "ok\n" || res.Error != "" || len(res.Stderr) != 64<<10 {
		t.Errorf("stdout %q, error %q, %d bytes of stderr; want ok and the first 64 KiB", res.Stdout, res.Error, len(res.Stderr))
	}
}

func TestRunDoesNotWaitForWhatThePluginLeftBehind(t *testing.T) {
	dir := t.TempDir()
	// As the dhcp plugin's daemon would be, started with the plugin's output.
	plugin(t, dir, "leaving", "sleep 1000 & echo $!; exit 0")
	res := rpc.Run(deadline(t, patience), rpc.ExecRequest{Plugin: "leaving", Dirs: []string{dir}})
	if res.Error != "" || res.ExitCode != 0 {
		t.Fatalf("result %+v", res)
	}
	killText(t, string(res.Stdout))
}

func TestPluginDiesAtTheDeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		call time.Duration // the shim's deadline
		exec int64         // the run's own, in milliseconds
	}{
		"of the run":  {patience, 200},
		"of the shim": {300 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pids := endless(t, dir)
			var res rpc.ExecResult
			socket := serve(t, func(_ context.Context, c *rpc.Call) rpc.Reply {
				// Without a deadline of the daemon's: the shim has to act.
				var err error
				res, err = c.Exec(context.Background(), rpc.ExecRequest{Plugin: "endless", Dirs: []string{dir}, TimeoutMillis: tc.exec})
				if (tc.exec == 0) != errors.Is(err, rpc.ErrGone) {
					t.Errorf("error %v", err)
				}
				return rpc.Reply{}
			})
			_, err := rpc.Client{Socket: socket}.Call(deadline(t, tc.call), rpc.Request{Command: "ADD"}, nil)
			if (tc.exec == 0) != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if tc.exec != 0 && !strings.Contains(res.Error, "killed: context deadline exceeded") {
				t.Errorf("result %+v", res)
			}
			for _, pid := range processes(t, pids) {
				eventually(t, "the plugin is dead", func() bool { return !alive(pid) })
			}
		})
	}
}

func TestPluginAndCallEndWithTheShim(t *testing.T) {
	dir := t.TempDir()
	plugin(t, dir, "endless", "echo $$ > "+dir+"/pids.new; mv "+dir+"/pids.new "+dir+"/pids; exec sleep 1000\n")
	ended := make(chan error, 1)
	socket := serve(t, func(ctx context.Context, c *rpc.Call) rpc.Reply {
		_, err := c.Exec(ctx, rpc.ExecRequest{Plugin: "endless", Dirs: []string{dir}})
		<-ctx.Done()
		ended <- err
		return rpc.Reply{}
	})
	shim, _ := play(t, "shim", 0, socket, "x")
	pid := processes(t, filepath.Join(dir, "pids"))[0]
	if err := shim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is dead", func() bool { return !alive(pid) })
	select {
	case err := <-ended:
		if !errors.Is(err, rpc.ErrGone) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the call's context did not end with the shim")
	}
}

func TestCancelledPluginIsDeadBeforeTheNextStarts(t *testing.T) {
	dir := t.TempDir()
	pids := endless(t, dir)
	plugin(t, dir, "undo", "echo undone")
	var undone rpc.ExecResult
	socket := serve(t, func(ctx context.Context, c *rpc.Call) rpc.Reply {
		adding, cancel := context.WithCancel(ctx)
		go func() {
			processes(t, pids)
			cancel()
		}()
		_, err := c.Exec(adding, rpc.ExecRequest{Plugin: "endless", Dirs: []string{dir}})
		if !errors.Is(err, context.Canceled) || errors.Is(err, rpc.ErrGone) {
			t.Errorf("error %v, want a confirmed cancel", err)
		}
		if pid := processes(t, pids)[0]; alive(pid) {
			t.Errorf("process %d still runs", pid)
		}
		undone, err = c.Exec(ctx, rpc.ExecRequest{Plugin: "undo", Dirs: []string{dir}})
		if err != nil {
			t.Error(err)
		}
		return rpc.Reply{}
	})
	if _, err := (rpc.Client{Socket: socket}).Call(deadline(t, patience), rpc.Request{Command: "ADD"}, nil); err != nil {
		t.Fatal(err)
	}
	if string(undone.Stdout) != "undone\n" {
		t.Errorf("result %+v", undone)
	}
}

func TestContextEndsBeforeTheShimGivesUp(t *testing.T) {
	dir := t.TempDir()
	plugin(t, dir, "undo", "echo undone")
	socket := serve(t, func(ctx context.Context, c *rpc.Call) rpc.Reply {
		<-ctx.Done()
		res, err := c.Exec(context.WithoutCancel(ctx), rpc.ExecRequest{Plugin: "undo", Dirs: []string{dir}})
		if err != nil {
			t.Error(err)
		}
		return rpc.Reply{Stdout: res.Stdout, ExitCode: 1}
	})
	reply, err := rpc.Client{Socket: socket}.Call(deadline(t, 3*time.Second), rpc.Request{Command: "ADD"}, nil)
	if err != nil || string(reply.Stdout) != "undone\n" || reply.ExitCode != 1 {
		t.Errorf("reply %+v, error %v; want what the daemon said after its own deadline", reply, err)
	}
}

func TestServeEndsAfterItsCalls(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended atomic.Bool
	started := make(chan struct{})
	served := make(chan error)
	go func() {
		served <- rpc.Serve(ctx, ln, handler(func(ctx context.Context, _ *rpc.Call) rpc.Reply {
			close(started)
			<-ctx.Done()
			ended.Store(true)
			return rpc.Reply{Stdout: []byte("stopping")}
		}), discard)
	}()
	silent := connect(t, socket) // a peer that says nothing must not hold Serve up
	answered := make(chan rpc.Reply, 1)
	go func() {
		reply, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{Command: "ADD"}, nil)
		if err != nil {
			t.Error(err)
		}
		answered <- reply
	}()
	<-started
	cancel()
	if err := <-served; err != nil || !ended.Load() {
		t.Errorf("Serve: error %v, call ended %v", err, ended.Load())
	}
	if reply := <-answered; string(reply.Stdout) != "stopping" {
		t.Errorf("reply %q", reply.Stdout)
	}
	if n, err := silent.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, error %v; want the end of the connection", n, err)
	}
}

// TestCallsFinishWhenTheDaemonStops: an upgrade must not cut an ADD off in its
// middle.
func TestCallsFinishWhenTheDaemonStops(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	ln, err := rpc.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, served := make(chan struct{}), make(chan error)
	go func() {
		served <- rpc.Serve(ctx, ln, handler(func(call context.Context, _ *rpc.Call) rpc.Reply {
			close(started)
			<-ctx.Done() // the daemon is told to stop
			_, err := net.Dial("unix", socket)
			for ; err == nil; _, err = net.Dial("unix", socket) { // until it listens no more
				time.Sleep(time.Millisecond)
			}
			return rpc.Reply{Stdout: []byte(fmt.Sprint(call.Err()))}
		}), discard)
	}()
	go func() { <-started; cancel() }()
	reply, err := rpc.Client{Socket: socket}.Call(deadline(t, patience), rpc.Request{Command: "ADD"}, nil)
	if err != nil || string(reply.Stdout) != "<nil>" {
		t.Errorf("reply %q, error %v; want the call to be let finish", reply.Stdout, err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func killText(t *testing.T, pid string) {
	t.Helper()
	for _, p := range processesIn(t, pid) {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
}
