package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tendril-cni/tendril/webhook/kube"
	"github.com/tendril-cni/tendril/webhook/validate"
)

func (t *tool) lint() *cobra.Command {
	var cluster bool
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Judge networks, pods and VF policies as the webhook would, before they are applied",
		Long: `lint judges networks, pods, workloads and VF policies by the code that the webhook
runs: offline, or with what the cluster has (--cluster). - is standard input.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				return misused("lint: no file given (- is standard input)")
			}
			objects, err := read(files, t.Streams.In)
			if err != nil {
				return exit{Misused, fmt.Errorf("lint: %w", err)}
			}
			rules := validate.Rules{Checks: validate.Domains(), Facts: validate.Facts{DefaultNamespace: validate.AgentNamespace}}
			if cluster {
				if rules.Facts, err = t.known(cmd.Context()); err != nil {
					return err
				}
			}
			return report(t.Streams.Out, validate.Lint(objects, t.namespace(), rules))
		},
	}
	cmd.Flags().BoolVar(&cluster, "cluster", false, "judge by what the cluster has, too")
	return cmd
}

// known is what the webhook would judge by in the cluster that the flags name.
func (t *tool) known(ctx context.Context) (validate.Facts, error) {
	config, err := t.flags.ToRESTConfig()
	if err != nil {
		return validate.Facts{}, fmt.Errorf("find the cluster: %w", err)
	}
	return kube.Look(ctx, config, validate.Facts{DefaultNamespace: validate.AgentNamespace})
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

func report(out io.Writer, found []validate.Found) error {
	var bad error
	for _, f := range found {
		fmt.Fprintln(out, f)
		if f.Level == validate.Deny {
			bad = exit{Bad, nil}
		}
	}
	return bad
}
