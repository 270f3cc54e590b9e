package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/tendril-cni/tendril/tests/lab"
)

// runBeside runs a program outside the lab's namespaces while its machines run.
// A signal ends the boot by way of ctx; from then on, with stop called, signals
// are the program's affair, and the lab ends when it does.
func runBeside(ctx context.Context, stop func(), args []string) (code int, err error) {
	flags := flag.NewFlagSet("lab run", flag.ContinueOnError)
	machines := flags.Int("machines", 1, "how many `machines` to boot, 1 or 2")
	if err := parse(flags, args); err != nil {
		return 0, err
	}
	if flags.NArg() == 0 {
		return 0, errors.New("run: no command given")
	}
	own, err := start(ctx, *machines)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(flags.Arg(0), flags.Args()[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), lab.EnvSocket+"="+own.socket)
	// The program must not outlive this process; the kernel takes the end of
	// the thread that started it for that of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	relay := lab.Catch()
	defer relay.Stop()
	stop()
	runErr := cmd.Start()
	if runErr == nil {
		relay.To(cmd.Process.Signal)
		runErr = cmd.Wait()
	}
	if err := own.stop(); err != nil {
		return 0, fmt.Errorf("stop lab: %w", err)
	}
	return exitCode(runErr)
}

// exitCode is a program's exit code as a shell would show it.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal()), nil
	}
	return exit.ExitCode(), nil
}
