package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/machine/agent"
)

// drain is how long output is still read after a process has ended. A daemon
// that it left behind may hold the pipe open for ever.
const drain = 2 * time.Second

// framed sends one stream of a process as frames, each at once.
type framed struct {
	mu     *sync.Mutex // serialises the two streams on one connection
	w      http.ResponseWriter
	stream agent.Stream
}

func (f framed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := agent.WriteFrame(f.w, f.stream, p); err != nil {
		return 0, err
	}
	return len(p), http.NewResponseController(f.w).Flush()
}

// runProcess runs one process and streams its output.
func runProcess(w http.ResponseWriter, r *http.Request) {
	var want agent.Exec
	if err := json.NewDecoder(r.Body).Decode(&want); err != nil || len(want.Args) == 0 {
		http.Error(w, "want a process with at least one argument", http.StatusBadRequest)
		return
	}
	w.Header().Set("Trailer", agent.TrailerExit+", "+agent.TrailerError)
	w.WriteHeader(http.StatusOK)

	cmd := exec.CommandContext(r.Context(), want.Args[0], want.Args[1:]...)
	cmd.Env, cmd.Dir = environment(want.Env), want.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	var mu sync.Mutex
	cmd.Stdout, cmd.Stderr = framed{&mu, w, agent.Stdout}, framed{&mu, w, agent.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drain

	code, err := exitCode(cmd.Run())
	if err != nil {
		w.Header().Set(agent.TrailerError, err.Error())
		return
	}
	w.Header().Set(agent.TrailerExit, strconv.Itoa(code))
}

// exitCode turns the result of a process into what a shell would say, and keeps
// an error only for a process that could not be started.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return exit.ExitCode(), nil
	default:
		return 0, err
	}
}
