package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
)

// The exit codes.
const (
	// Answered: the answer is printed, and nothing is wrong.
	Answered = 0
	// Bad: the answer is printed, and something is wrong: an object is denied, a pod
	// is stuck, a check fails.
	Bad = 1
	// Misused: a flag, an argument or a file cannot be read.
	Misused = 2
	// Unseen: the cluster cannot be asked.
	Unseen = 3
)

// Program is one run's surroundings.
type Program struct {
	Streams genericiooptions.IOStreams
	Version string
	// Asker asks daemons; nil is by exec.
	Asker fleet.Asker
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// exit is an error with its exit code. An err that is nil prints nothing.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }

// asExit reports whether err is one that only carries an exit code.
func asExit(err error, e *exit) bool { return errors.As(err, e) && e.err == nil }

func misused(format string, args ...any) error { return exit{Misused, fmt.Errorf(format, args...)} }

// Run runs the command line and returns its exit code.
func Run(ctx context.Context, args []string, p Program) int {
	if p.Now == nil {
		p.Now = time.Now
	}
	t := &tool{Program: p, flags: genericclioptions.NewConfigFlags(true)}
	root := t.root()
	root.SetArgs(append([]string{}, args...)) // nil would be the process's own
	root.SetIn(p.Streams.In)
	root.SetOut(p.Streams.Out)
	root.SetErr(p.Streams.ErrOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return Answered
	}
	var e exit
	if !errors.As(err, &e) {
		e = exit{Unseen, err}
		if !t.began || errors.Is(err, fleet.ErrNoNode) {
			e.code = Misused // cobra refused the command line
		}
	}
	if e.err != nil {
		fmt.Fprintf(p.Streams.ErrOut, "error: %v\n", e.err)
	}
	return e.code
}

// tool is what the verbs share.
type tool struct {
	Program
	flags  *genericclioptions.ConfigFlags
	system string
	// began says that a verb's own code runs.
	began bool
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-tendril",
		Short: "See and explain the networks of pods (Tendril)",
		Long: `kubectl tendril sees and explains the networks of pods: what a pod asks for, what
it has, and why not; VFs and addresses; what a policy would do.

Exit codes: 0 the answer is printed and nothing is wrong, 1 something is wrong
(a pod is stuck, a check fails, an object is denied), 2 the command line or a
file cannot be read, 3 the cluster cannot be asked.`,
		Annotations:      map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl tendril"},
		SilenceUsage:     true,
		SilenceErrors:    true,
		PersistentPreRun: func(*cobra.Command, []string) { t.began = true },
		RunE: func(cmd *cobra.Command, args []string) error {
			_ = cmd.Help()
			return exit{Misused, nil}
		},
		Args: cobra.NoArgs,
	}
	t.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&t.system, "system-namespace", "", "namespace of Tendril's own pods; empty finds them in any")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit{Misused, err} })
	root.AddCommand(t.explain(), t.status(), t.vfs(), t.ips(), t.plan(), t.doctor(), t.bundle(), t.migrate(), t.whereabouts(), t.lint(), t.version())
	return root
}

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) { fmt.Fprintln(t.Streams.Out, "kubectl-tendril", t.Version) },
	}
}

// fleet is the cluster that the flags name.
func (t *tool) fleet() (*fleet.Fleet, error) {
	config, err := t.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	return fleet.New(config, t.system, t.Asker)
}

// namespace is the one that the flags, or the kubeconfig, name.
func (t *tool) namespace() string {
	ns, _, err := t.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil || ns == "" {
		return "default"
	}
	return ns
}

// warn says on standard error what could not be seen.
func (t *tool) warn(format string, args ...any) {
	fmt.Fprintf(t.Streams.ErrOut, "warning: "+format+"\n", args...)
}

// coloured says whether standard output is a terminal on which colour is wanted
// (https://no-color.org).
func (t *tool) coloured() bool {
	f, ok := t.Streams.Out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
