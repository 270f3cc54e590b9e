package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/machine/agent"
)

// Names of files in a machine's directory.
const (
	consoleFile   = "console"
	monitorSocket = "monitor"
)

// runRoot is where machines have their directories; the lab has a file system
// of its own there that ends with it.
const runRoot = "/run/tendril-lab"

// bootTimeout is several times what a boot takes on a busy machine.
const bootTimeout = 90 * time.Second

// A Machine is a running virtual machine.
type Machine struct {
	*Client
	// Index is the machine's index among those of its lab.
	Index int

	dir  string
	qemu *exec.Cmd
	done chan struct{} // closed when QEMU has ended
	boot string        // the agent's boot id
}

// Boot starts a machine and returns it when its agent answers and its set-up
// has succeeded. A boot that hangs is tried once more: under emulation, and
// rarely, one does.
func Boot(ctx context.Context, o Options) (*Machine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	m, err := bootOnce(ctx, p, o, acceleration(ctx, p))
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "lab: %v\nlab: booting machine %d a second time\n", err, o.Index)
		m, err = bootOnce(ctx, p, o, emulation)
	}
	return m, err
}

func bootOnce(ctx context.Context, p parts, o Options, acceleration string) (*Machine, error) {
	m := &Machine{
		Client: NewClient(dialAgent(o.Index)),
		Index:  o.Index,
		dir:    filepath.Join(runRoot, o.name()),
		done:   make(chan struct{}),
	}
	if err := m.start(ctx, p, o, acceleration); err != nil {
		return nil, fmt.Errorf("start machine %d: %w", o.Index, err)
	}
	if err := m.awaitBoot(ctx, bootTimeout); err != nil {
		err = fmt.Errorf("boot machine %d: %w\nconsole ends with:\n%s", o.Index, err, m.consoleTail())
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// start makes the machine's directory and tap and runs QEMU.
func (m *Machine) start(ctx context.Context, p parts, o Options, acceleration string) error {
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	if o.Share == "" {
		o.Share = filepath.Join(m.dir, "share")
	}
	for _, dir := range []string{m.dir, o.Share} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for nic := range 2 {
		if err := os.RemoveAll(wire(m.dir, o.Index, nic)); err != nil {
			return err
		}
	}
	tap, err := openTap(o.Index)
	if err != nil {
		return err
	}
	defer func() { _ = tap.Close() }()
	log, err := os.Create(filepath.Join(m.dir, "qemu"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// QEMU outlives ctx: it ends with Close or with the lab.
	m.qemu = qemu(context.WithoutCancel(ctx), p, qemuArguments(p, o, acceleration, m.dir))
	m.qemu.Stdout, m.qemu.Stderr = log, log
	m.qemu.ExtraFiles = []*os.File{tap}
	return m.launch()
}

// launch starts QEMU from a thread that lives as long as it does: the kernel
// ends QEMU when the thread that started it ends.
func (m *Machine) launch() error {
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(m.done)
		err := m.qemu.Start()
		started <- err
		if err == nil {
			_ = m.qemu.Wait()
		}
	}()
	return <-started
}

// awaitBoot waits for the agent of a boot other than the last one.
func (m *Machine) awaitBoot(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, err := m.ask(ctx)
		switch {
		case err == nil && len(status.Problems) > 0:
			return fmt.Errorf("set up: %s", strings.Join(status.Problems, "; "))
		case err == nil && status.BootID != m.boot:
			m.boot = status.BootID
			return nil
		}
		select {
		case <-m.done:
			log, _ := os.ReadFile(filepath.Join(m.dir, "qemu"))
			return fmt.Errorf("qemu ended: %v: %s", m.qemu.ProcessState, bytes.TrimSpace(log))
		case <-ctx.Done():
			return fmt.Errorf("wait for agent: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ask tries the agent for a short while only: the first packets to a machine
// that is not up are not answered at all.
func (m *Machine) ask(ctx context.Context) (agent.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return m.Status(ctx)
}

// Reset cuts the machine's power and waits until it has booted again. What it
// had not synced to its disk is lost; whoever runs something in it gets an
// error.
func (m *Machine) Reset(ctx context.Context) error {
	if err := m.monitor(ctx, "system_reset"); err != nil {
		return fmt.Errorf("reset machine %d: %w", m.Index, err)
	}
	// A new request must not go out on a connection to the boot that is over.
	m.http.CloseIdleConnections()
	if err := m.awaitBoot(ctx, bootTimeout); err != nil {
		return fmt.Errorf("reset machine %d: %w\nconsole ends with:\n%s", m.Index, err, m.consoleTail())
	}
	return nil
}

// monitor gives QEMU one command and waits until it has taken it.
func (m *Machine) monitor(ctx context.Context, command string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(m.dir, monitorSocket))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if err := awaitPrompt(conn); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return err
	}
	return awaitPrompt(conn)
}

func awaitPrompt(r io.Reader) error {
	var seen []byte
	var buffer [256]byte
	for !bytes.HasSuffix(seen, []byte("(qemu) ")) {
		n, err := r.Read(buffer[:])
		if err != nil {
			return fmt.Errorf("wait for monitor: %w", err)
		}
		seen = append(seen, buffer[:n]...)
	}
	return nil
}

// Close ends the machine and throws away what it wrote to its disk.
func (m *Machine) Close() error {
	err := m.qemu.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-m.done
	m.http.CloseIdleConnections()
	return err
}

// Console returns what the machine has printed on its serial console.
func (m *Machine) Console() ([]byte, error) {
	return os.ReadFile(filepath.Join(m.dir, consoleFile))
}

func (m *Machine) consoleTail() string {
	const most = 2000
	text, err := m.Console()
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
