package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// process is one server of the control plane.
type process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone; err is set by then
	err   error
}

// launch starts the server name of the multi-call program, working in dir and logging there.
func launch(kubelab, dir, name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(kubelab, append([]string{name}, args...)...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// Proxy settings, a kubeconfig or GOFLAGS of whoever runs the test are none of a server's business.
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // an interrupt from the keyboard is for the test, which then stops us in order
		Pdeathsig: syscall.SIGKILL,
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// run starts the process and waits for it on one thread that nobody else gets: the kernel sends the
// parent-death signal when the starting thread ends, not the starting process.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
	close(p.ended)
}

// kill ends the process at once and returns when it is gone. None of them holds anything that would be
// worth asking it to end and waiting for that.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// failure is the reason why a process that should run does not, or nil if it runs.
func (p *process) failure() error {
	select {
	case <-p.ended:
		cause := p.err
		if cause == nil {
			cause = errors.New("it ended")
		}
		return fmt.Errorf("%s: %w; the end of %s: %s", p.name, cause, p.log, tail(p.log))
	default:
		return nil
	}
}

// tail is the last kilobytes of a log.
func tail(path string) []byte {
	const most = 2 << 10
	content, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	if len(content) > most {
		content = content[len(content)-most:]
	}
	return bytes.TrimSpace(content)
}
