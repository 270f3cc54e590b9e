package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// unseen is the state of a VF whose daemon cannot be asked.
const unseen = "unknown"

// states are all that a VF can be in.
var states = []string{inspect.Free, inspect.Used, inspect.Unfit, inspect.Quarantined, inspect.HostOwned, unseen}

// nodeVF is one VF with its node.
type nodeVF struct {
	Node string `json:"node"`
	inspect.VF
}

func (t *tool) vfs() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "vfs", Short: "List the nodes' VFs: where, on which driver, in which state, whose", Args: cobra.NoArgs,
		Long: `vfs lists the VFs of the nodes as their daemons see them. A VF is free, used,
unfit, in quarantine (not at its baseline after its last pod) or the host's; with
-o wide the reason is there too. For a node whose daemon cannot be asked the last
NodeVFState tells, and the states are unknown.`,
	}
	out, only := t.output(cmd), t.nodesFlag(cmd)
	cmd.Flags().StringVar(&state, "state", "", "only VFs in this state: "+strings.Join(states, ", "))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("state") && !slices.Contains(states, state) {
			return misused("--state: value %q is not allowed; allowed: %s", state, strings.Join(states, ", "))
		}
		return nil
	}
	out.run(cmd, func(ctx context.Context, f *fleet.Fleet, _ []string) error {
		all, err := t.allVFs(ctx, f, *only)
		if err != nil {
			return err
		}
		if state != "" {
			all = slices.DeleteFunc(all, func(v nodeVF) bool { return v.State != state })
		}
		tab := table{columns: columns("NODE", "PF", "VF", "ADDRESS", "NUMA", "DRIVER", "MAC", "VLAN", "STATE", "POD", "INTERFACE+", "NETWORK+", "RESOURCE+", "POLICY+", "WHY+")}
		for _, v := range all {
			tab.add(v.Node, v.PF, v.Index, v.Address, number(v.NUMANode, -1), v.Driver, v.MAC, number(v.VLAN, 0), v.State, v.Pod, v.Interface, v.Network, v.Resource, v.Policy, v.Why)
		}
		return out.print("VFList", map[string]any{"items": orEmpty(all)}, tab)
	})
	return cmd
}

// number prints n, but for the one that means none.
func number(n, none int) string {
	if n == none {
		return ""
	}
	return strconv.Itoa(n)
}

// orEmpty makes a list that JSON shows as one.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// allVFs lists the VFs of nodes, all nodes for none named.
func (t *tool) allVFs(ctx context.Context, f *fleet.Fleet, only []string) ([]nodeVF, error) {
	nodes, err := f.Nodes(ctx, only...)
	if err != nil {
		return nil, err
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return nil, err
	}
	var out []nodeVF
	for _, a := range fleet.AskAll[inspect.Inventory](ctx, f, daemons, nodeNames(nodes), inspect.PathVFs) {
		if a.Err != nil {
			reported := t.reported(ctx, f, a.Node)
			if daemons[a.Node] != nil || len(reported) > 0 {
				t.warn("%s: states of VFs are not known: %v", a.Node, a.Err)
			}
			out = append(out, reported...)
			continue
		}
		if a.Value.Incomplete != "" {
			t.warn("%s: %s", a.Node, a.Value.Incomplete)
		}
		for _, v := range a.Value.VFs {
			out = append(out, nodeVF{a.Node, v})
		}
	}
	return out, nil
}

func nodeNames(nodes []corev1.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return out
}

// reported are the VFs that a node has told the API server of.
func (t *tool) reported(ctx context.Context, f *fleet.Fleet, node string) []nodeVF {
	state, err := vfState(ctx, f, node)
	if err != nil {
		return nil
	}
	var out []nodeVF
	for _, p := range state.Status.PFs {
		for _, v := range p.VFs {
			name := p.Name
			if name == "" {
				name = p.Address
			}
			out = append(out, nodeVF{node, inspect.VF{PF: name, Index: v.Index, Address: v.Address, NUMANode: p.NUMANode, Driver: v.Driver,
				Resource: v.Resource, Policy: v.Policy, State: unseen, Why: strings.TrimSpace(v.Unfit)}})
		}
	}
	return out
}

// vfState reads the NodeVFState of a node.
func vfState(ctx context.Context, f *fleet.Fleet, node string) (v1alpha1.NodeVFState, error) {
	var out v1alpha1.NodeVFState
	u, err := f.Objects.Resource(v1alpha1.NodeVFStates).Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return out, err
	}
	return out, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out)
}
