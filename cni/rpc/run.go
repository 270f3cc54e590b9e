package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// busyTries and busyPause: a plugin that is being replaced by an installer
	// cannot be executed for a moment (ETXTBSY, execve(2)).
	busyTries = 5
	busyPause = 200 * time.Millisecond
	// pipeGrace is how long after its end a plugin's output is waited for when a
	// child that it left behind still holds it open.
	pipeGrace = time.Second
)

// Run runs one plugin executable here and now, in its own process group. When
// ctx ends, and when the calling process dies, the plugin is killed; in the
// first case its whole group. Run returns only after it was waited for.
func Run(ctx context.Context, r ExecRequest) ExecResult {
	dirs := searchPath(r.Dirs)
	path, err := find(r.Plugin, dirs)
	if err != nil {
		return ExecResult{ExitCode: -1, Error: err.Error(), NotFound: true}
	}
	env := environment(r.Env, dirs)
	for try := 1; ; try++ {
		res, err := runOnce(ctx, path, env, r.Stdin)
		if err == nil {
			return res
		}
		if !errors.Is(err, syscall.ETXTBSY) || try == busyTries || !sleep(ctx, busyPause) {
			res.ExitCode, res.Error = -1, fmt.Sprintf("run plugin %s: %v", path, err)
			return res
		}
	}
}

func runOnce(ctx context.Context, path string, env []string, stdin []byte) (ExecResult, error) {
	stdout, stderr := &bounded{limit: MaxOutput}, &bounded{limit: maxStderr}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, bytes.NewReader(stdin), stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	// The parent-death signal is sent when the thread that forked ends
	// (PR_SET_PDEATHSIG), so that thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	res := ExecResult{Stdout: stdout.kept.Bytes(), Stderr: stderr.kept.Bytes()}
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return res, fmt.Errorf("killed: %w", context.Cause(ctx))
	case stdout.over:
		return res, fmt.Errorf("wrote more than %d bytes to its standard output", MaxOutput)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		res.ExitCode = exit.ExitCode()
		return res, nil
	case errors.Is(err, exec.ErrWaitDelay):
		return res, nil // it ended well; a child of its own holds the pipe
	}
	return res, err
}

// searchPath is where plugins are looked up: the daemon's directories first, as
// Multus does with its binDir, then the runtime's.
func searchPath(dirs []string) []string {
	var out []string
	for _, d := range append(dirs[:len(dirs):len(dirs)], filepath.SplitList(os.Getenv("CNI_PATH"))...) {
		if filepath.IsAbs(d) {
			out = append(out, filepath.Clean(d))
		}
	}
	return out
}

func find(plugin string, dirs []string) (string, error) {
	name := filepath.Base(plugin)
	switch {
	case plugin == "" || name == "." || name == "..":
		return "", refuse(plugin, "a file name")
	case plugin != name && !filepath.IsAbs(plugin):
		return "", refuse(plugin, "a file name without a directory")
	}
	for _, d := range dirs {
		if plugin != name && filepath.Dir(plugin) != d {
			continue
		}
		path := filepath.Join(d, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", refuse(plugin, "an executable in "+strings.Join(dirs, ", "))
}

func refuse(plugin, allowed string) error {
	return fmt.Errorf("find plugin: value %q is not allowed; allowed: %s", plugin, allowed)
}

// environment is the shim's own, which the runtime chose, with the daemon's
// variables in place of the CNI_ ones. The later of two settings counts.
func environment(set, dirs []string) []string {
	env := make([]string, 0, len(set)+16)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CNI_") {
			env = append(env, kv)
		}
	}
	env = append(env, set...)
	return append(env, "CNI_PATH="+strings.Join(dirs, string(os.PathListSeparator)))
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// bounded keeps the first limit bytes and takes the rest without keeping it, so
// that the writer is not stopped by a full pipe.
type bounded struct {
	// kept is not embedded: its ReadFrom would get round the limit.
	kept  bytes.Buffer
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-b.kept.Len())
	b.kept.Write(p[:keep])
	b.over = b.over || keep < len(p)
	return len(p), nil
}
