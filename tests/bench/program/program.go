package program

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/tendril-cni/tendril/tests/bench/contest"
	"github.com/tendril-cni/tendril/tests/bench/host"
	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// Program is one benchmark program.
type Program struct {
	// Name tells it from the others, in messages and in its file's name; "" for
	// the main one.
	Name string
	// Rounds is what -rounds is unless given.
	Rounds int
	// Needs are those of our programs that have to be in -bin, by file name.
	Needs []string
	// Check refuses values of flags that are the program's own; it may be nil.
	Check func() error
	// Lab is whether it runs in a lab.
	Lab bool
	// Fetch gets what a lab has no network for; it may be nil.
	Fetch func(context.Context) error
	// Measure plays the parts and adds to the report.
	Measure func(context.Context, *Run) error
}

// Main runs p as the whole process. Flags that are p's own have been registered.
func (p Program) Main() {
	if p.Lab {
		lab.Init()
	}
	r, err := p.flags()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err == nil && p.Fetch != nil && !(p.Lab && lab.Inside()) {
		err = p.Fetch(ctx)
	}
	if err == nil {
		if p.Lab {
			lab.Enter()
		}
		err = p.Run(ctx, r)
	}
	stop()
	if err != nil {
		r.Say("%v", err)
		os.Exit(1)
	}
}

func (p Program) flags() (*Run, error) {
	r := &Run{name: p.Name}
	repo, err := cache.Repo()
	if err != nil {
		return r, err
	}
	flag.IntVar(&r.Rounds, "rounds", p.Rounds, "how often each side takes its turn")
	flag.StringVar(&r.Bin, "bin", filepath.Join(repo, "bin"), "directory of our own programs (make build)")
	flag.StringVar(&r.Out, "out", filepath.Join(repo, "tests", "bench", "results"), "directory of the file with all samples; empty for none")
	flag.Parse()
	if err := AtLeast("rounds", r.Rounds, 1); err != nil {
		return r, err
	}
	for _, name := range p.Needs {
		if _, err := os.Stat(filepath.Join(r.Bin, name)); err != nil {
			return r, fmt.Errorf("find programs (run make build first): %w", err)
		}
	}
	if p.Check != nil {
		return r, p.Check()
	}
	return r, nil
}

// AtLeast refuses a flag's value that is below least.
func AtLeast(flag string, value, least int) error {
	if value < least {
		return fmt.Errorf("flag -%s: value %d is not allowed; allowed: %d and more", flag, value, least)
	}
	return nil
}

// Run measures with options that are set already, and publishes what came out.
func (p Program) Run(ctx context.Context, r *Run) error {
	r.name = p.Name
	r.report.Facts = host.Facts(ctx, r.Bin)
	if err := p.Measure(ctx, r); err != nil {
		return err
	}
	r.Fact("load after", host.Load())
	path, err := r.report.Publish(r.Out, p.prefix())
	if path != "" {
		r.Say("all samples are in %s", path)
	}
	return err
}

// prefix is what the names of p's files begin with.
func (p Program) prefix() string {
	if p.Name == "" {
		return ""
	}
	return p.Name + "-"
}

// Run is one run of a Program.
type Run struct {
	// Rounds is how often each side takes its turn.
	Rounds int
	// Bin is the directory of our own programs.
	Bin string
	// Out is the directory of the file with all samples; empty for none.
	Out string

	name   string
	report contest.Report
}

// Say prints a line about how far the run is.
func (r *Run) Say(format string, args ...any) {
	prefix := "bench"
	if r.name != "" {
		prefix += " " + r.name
	}
	fmt.Fprintf(os.Stderr, prefix+": "+format+"\n", args...)
}

// Fact keeps a circumstance that numbers may depend on.
func (r *Run) Fact(name string, value any) {
	r.report.Facts = append(r.report.Facts, contest.Fact{Name: name, Value: fmt.Sprint(value)})
}

// Result prints and keeps a number that is no time.
func (r *Run) Result(name string, value any) {
	fmt.Printf("%s: %v\n", name, value)
	r.Fact(name, value)
}

// Add takes in samples of something that is no [Part].
func (r *Run) Add(part string, lines []contest.Comparison, s contest.Samples) error {
	return r.report.Add(part, lines, s)
}
