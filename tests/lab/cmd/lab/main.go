package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cluster"
)

const usage = `usage:
  lab fetch                         download and build what machines and clusters need
  lab run [-machines N] -- CMD...   run CMD here, with machines beside it
  lab exec BINARY ARGS...           run a program in machine 1; for go test -exec
  lab shell [N]                     a shell in machine N
`

// exitFailed is the exit code when the lab, not the program in it, is at fault.
const exitFailed = 125

func main() {
	lab.Init()
	code, err := dispatch(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(exitFailed)
	}
	os.Exit(code)
}

// interruptible returns a context that ends with the first signal to stop.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
}

func dispatch(args []string) (int, error) {
	ctx, stop := interruptible()
	defer stop()
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch verb, rest := args[0], args[1:]; verb {
	case "fetch":
		return 0, cluster.Fetch(ctx)
	case "run":
		return runBeside(ctx, stop, rest)
	case "exec":
		return execInside(ctx, rest)
	case "shell":
		return shell(ctx, rest)
	case verbServe:
		return 0, serve(ctx, rest)
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2, nil
	}
}

// parse parses the flags of one verb; what is wrong has been printed.
func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return errors.New("see the usage above")
	}
	return err
}
