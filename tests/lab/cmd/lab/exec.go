package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/machine"
	"github.com/tendril-cni/tendril/tests/lab/machine/agent"
)

// grace is how much longer than its own time-out a test binary may take: it has
// to print what its goroutines were doing.
const grace = time.Minute

// guestMark tells a program that it runs in a machine of the lab.
const guestMark = "TENDRIL_LAB_GUEST=1"

// execInside runs a program of the host in machine 1: same arguments, same
// working directory where the machine has it, output and exit code back.
func execInside(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("exec: no program given")
	}
	socket, leave, err := join(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer leave()
	c := client(socket, 1)

	dir := fmt.Sprintf("/var/tmp/exec-%d-%d", os.Getpid(), time.Now().UnixNano())
	program := filepath.Join(dir, filepath.Base(args[0]))
	if err := copyIn(ctx, c, args[0], program); err != nil {
		return 0, err
	}
	defer func() {
		// The machine may be shared and live on.
		_, _ = c.Run(context.WithoutCancel(ctx), "rm -rf "+dir, os.Stderr)
	}()
	plan := planArguments(args[1:], dir)
	if limit, ok := plan.timeout(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit+grace)
		defer cancel()
	}
	code, err := c.Exec(ctx, agent.Exec{
		Args: append([]string{program}, plan.args...),
		Env:  append(passedEnviron(os.Environ()), guestMark),
		Dir:  workingDirectory(),
	}, os.Stdout, os.Stderr)
	if err != nil {
		return 0, err
	}
	return code, plan.fetch(ctx, c)
}

func copyIn(ctx context.Context, c *machine.Client, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return c.Put(ctx, to, 0o755, f)
}

// workingDirectory is this one if machines have it, which is so inside the
// repository.
func workingDirectory() string {
	wd, err := os.Getwd()
	if err != nil {
		return "/tmp"
	}
	if _, err := cache.Repo(); err != nil {
		return "/tmp"
	}
	return wd
}

// passedEnviron picks the variables that mean the same in the machine. Those
// of the lab itself name things on the host.
func passedEnviron(environ []string) []string {
	var passed []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "TENDRIL_LAB_"):
		case strings.HasPrefix(name, "TENDRIL_"), name == "GODEBUG", name == "GOTRACEBACK", name == "GORACE", name == "GOGC", name == "GOMEMLIMIT":
			passed = append(passed, e)
		}
	}
	return passed
}

// argumentPlan is a test binary's arguments as the machine is to see them.
type argumentPlan struct {
	args []string
	// files are what the program writes in the machine, to be fetched to the
	// path it was to have on the host.
	files map[string]string
}

// outputFlags are the flags of test binaries that name a file to be written.
var outputFlags = []string{"coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace"}

// planArguments rewrites the flags of a test binary that name files on the
// host. The test log is for go test's own cache, which does not know about
// machines; without it go test does not cache the result.
func planArguments(args []string, dir string) argumentPlan {
	p := argumentPlan{files: map[string]string{}}
	for _, a := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		name, isTest := strings.CutPrefix(name, "test.")
		switch {
		case !isTest || !strings.HasPrefix(a, "-"):
			p.args = append(p.args, a)
		case name == "testlogfile":
		case name == "gocoverdir", name == "outputdir", name == "fuzzcachedir":
			p.args = append(p.args, "-test."+name+"="+dir)
		case isOutput(name) && value != "":
			inside := filepath.Join(dir, name)
			p.files[inside] = value
			p.args = append(p.args, "-test."+name+"="+inside)
		default:
			p.args = append(p.args, a)
		}
	}
	return p
}

func isOutput(name string) bool {
	for _, o := range outputFlags {
		if name == o {
			return true
		}
	}
	return false
}

// timeout is the -test.timeout among the arguments.
func (p argumentPlan) timeout() (time.Duration, bool) {
	for _, a := range p.args {
		if v, ok := strings.CutPrefix(a, "-test.timeout="); ok {
			d, err := time.ParseDuration(v)
			return d, err == nil && d > 0
		}
	}
	return 0, false
}

// fetch brings back what the program wrote.
func (p argumentPlan) fetch(ctx context.Context, c *machine.Client) error {
	for inside, outside := range p.files {
		data, err := c.Get(ctx, inside)
		if errors.Is(err, os.ErrNotExist) {
			continue // a test binary that fails early writes no profile
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(outside, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
