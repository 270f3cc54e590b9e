package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// version is set by the linker.
var version = "dev"

const usage = `kubectl tendril lint [--cluster] [--namespace NS] FILE...
not there yet: explain, status, vfs, ips, plan, doctor, migrate
`

// The exit codes.
const (
	exitDenied = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "lint":
		return lint(ctx, args[1:], in, out, complaints)
	case "version", "--version":
		fmt.Fprintln(out, "kubectl-tendril", version)
		return 0
	}
	fmt.Fprintf(complaints, "kubectl-tendril %s\n%s", version, usage)
	return exitUsage
}

func lint(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	fs := flag.NewFlagSet("lint", flag.ContinueOnError)
	fs.SetOutput(complaints)
	cluster := fs.Bool("cluster", false, "judge by what the current cluster has, too")
	namespace := fs.String("namespace", "default", "namespace of objects that name none")
	if fs.Parse(args) != nil {
		return exitUsage
	}
	if fs.NArg() == 0 {
		fmt.Fprint(complaints, "lint: no file given (- is standard input)\n", usage)
		return exitUsage
	}
	objects, err := read(fs.Args(), in)
	rules := validate.Rules{Checks: validate.Domains()}
	if err == nil && *cluster {
		rules.Facts, err = facts(ctx)
	}
	if err != nil {
		fmt.Fprintf(complaints, "lint: %v\n", err)
		return exitUsage
	}
	return report(out, validate.Lint(objects, *namespace, rules))
}

func read(files []string, in io.Reader) ([]validate.Object, error) {
	var all []validate.Object
	for _, name := range files {
		data, err := contents(name, in)
		if err != nil {
			return nil, err
		}
		objects, err := validate.Decode(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return all, nil
}

func contents(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}

// facts are those of the cluster that kubectl would talk to.
func facts(ctx context.Context) (validate.Facts, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return validate.Facts{}, fmt.Errorf("find the cluster: %w", err)
	}
	return kube.Look(ctx, config, validate.Facts{})
}

func report(out io.Writer, found []validate.Found) int {
	code := 0
	for _, f := range found {
		fmt.Fprintln(out, f)
		if f.Level == validate.Deny {
			code = exitDenied
		}
	}
	return code
}
