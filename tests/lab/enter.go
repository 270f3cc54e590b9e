package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// envStage tells a re-executed process what it is.
const envStage = "TENDRIL_LAB_STAGE"

const (
	stageInit   = "init"   // first process of the namespaces
	stageInside = "inside" // the program itself, in the lab
)

// exitBroken is the exit code when the lab itself could not be made.
const exitBroken = 125

// Inside reports whether this process is in a lab.
func Inside() bool { return os.Getenv(envStage) == stageInside }

// Enter puts the calling program into a lab. Outside it does not return: it
// runs the program again, inside, and exits with that one's exit code. Inside
// it returns at once.
func Enter() {
	Init()
	if Inside() {
		return
	}
	cmd := Command(context.Background(), os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	os.Exit(Run(cmd))
}

// Main is for TestMain: it runs the tests of a package in a lab. What fetch
// downloads or builds is got before the lab is entered, because inside there is
// no network: machine.Fetch for packages that boot machines.
func Main(m interface{ Run() int }, fetch ...func(context.Context) error) {
	Init()
	if !Inside() {
		for _, f := range fetch {
			if err := f(context.Background()); err != nil {
				fmt.Fprintf(os.Stderr, "lab: fetch: %v\n", err)
				os.Exit(exitBroken)
			}
		}
	}
	Enter()
	os.Exit(m.Run())
}

// Init must be called first thing in a program that uses [Command]: it takes
// over the process that is to be the first of a lab, and otherwise returns.
func Init() {
	if os.Getenv(envStage) == stageInit {
		os.Exit(initMain())
	}
}

// Command returns a command that runs this program with args in a new lab. It
// is to be run with [Run] or [Start].
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envStage+"="+stageInit)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	return cmd
}

// Start starts a command of [Command] and returns a function that waits for it.
// The thread that starts it is kept until it ends, because the kernel takes the
// end of that thread for the end of this process.
func Start(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, explain(err)
	}
	return func() error { return <-ended }, nil
}

// Run runs a command of [Command], passes on the signals that this process
// gets, and returns its exit code.
func Run(cmd *exec.Cmd) int {
	relay := Catch()
	defer relay.Stop()
	wait, err := Start(cmd)
	if err != nil {
		fmt.Fprintf(os.Stderr, "enter lab: %v\n", err)
		return exitBroken
	}
	relay.To(cmd.Process.Signal)
	err = wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return shellCode(exit.Sys().(syscall.WaitStatus))
	default:
		fmt.Fprintf(os.Stderr, "enter lab: %v\n", err)
		return exitBroken
	}
}

// explain says what to do about the likely causes.
func explain(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return fmt.Errorf("make namespaces: %w (run as root, or allow user namespaces: sysctl user.max_user_namespaces, "+
		"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)
}

// shellCode is the exit code a shell would show.
func shellCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
