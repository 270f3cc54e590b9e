package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// initMain is the first process of a lab: it furnishes the namespaces, runs the
// program, and reaps whatever the program's children leave behind. When it ends
// the kernel kills all others.
func initMain() int {
	relay := Catch()
	if err := furnish(); err != nil {
		fmt.Fprintf(os.Stderr, "furnish lab: %v\n", err)
		return exitBroken
	}
	// The executable is opened anew: /proc is another one by now.
	program, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   insideEnviron(),
		Files: inherited(),
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "start in lab: %v\n", err)
		return exitBroken
	}
	pid := program.Pid
	relay.To(func(s os.Signal) error { return syscall.Kill(pid, s.(syscall.Signal)) })
	return reap(pid)
}

// reap collects every child until the program ends.
func reap(program int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintf(os.Stderr, "wait in lab: %v\n", err)
			return exitBroken
		case pid == program && (status.Exited() || status.Signaled()):
			return shellCode(status)
		}
	}
}

func insideEnviron() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, envStage+"=") {
			env = append(env, e)
		}
	}
	return append(env, envStage+"="+stageInside)
}

// inherited are the standard streams and the files that the process outside
// handed in as ExtraFiles.
func inherited() []*os.File {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for fd := uintptr(3); ; fd++ {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return files // the Go runtime's own are close-on-exec
		}
		files = append(files, os.NewFile(fd, fmt.Sprintf("fd%d", fd)))
	}
}

// furnish makes the namespaces usable.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	mounts := []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return network()
}

// network sets up the loopback and the management bridge.
func network() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: machine.Bridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	address, err := netlink.ParseAddr(machine.Gateway)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("address bridge: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set up bridge: %w", err)
	}
	return nil
}
