package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// patience bounds every wait.
const patience = 30 * time.Second

// Process is a daemon that runs beside the benchmark, with its output in a file.
type Process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when the process is gone; err is set by then
	err   error
}

// Start runs cmd, whose output goes to the file log.
func Start(log string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, log: log, ended: make(chan struct{})}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	// An interrupt from the keyboard is for the benchmark, which then stops us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	return p, nil
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is nil while the process runs, and then says how it ended.
func (p *Process) Ended() error {
	select {
	case <-p.ended:
		return fmt.Errorf("it ended: %w", errors.Join(errors.New(p.cmd.ProcessState.String()), p.err))
	default:
		return nil
	}
}

// Stop ends the process in order, and by force when that takes too long. tail
// asks for the end of its log as an error.
func (p *Process) Stop(tail bool) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	if !tail && p.err == nil {
		return nil
	}
	log, err := os.ReadFile(p.log)
	return errors.Join(p.err, err, fmt.Errorf("end of the log of %s:\n%s", p.cmd.Path, log[max(0, len(log)-4<<10):]))
}

// Await polls until done, an error, or the end of patience.
func Await(ctx context.Context, what string, done func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		ok, err := done()
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait for %s: not within %v", what, patience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
