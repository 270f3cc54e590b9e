package cli

import (
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// completePods completes the names of pods of the namespace.
func (t *tool) completePods(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	f, err := t.fleet()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	pods, err := f.Client.CoreV1().Pods(t.namespace()).List(cmd.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, p := range pods.Items {
		if strings.HasPrefix(p.Name, begun) {
			out = append(out, p.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes the names of nodes.
func (t *tool) completeNodes(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	f, err := t.fleet()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	nodes, err := f.Nodes(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, begun) {
			out = append(out, n.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// nodesFlag adds the flag that narrows a verb to some nodes.
func (t *tool) nodesFlag(cmd *cobra.Command) *[]string {
	nodes := cmd.Flags().StringSlice("node", nil, "only these nodes")
	_ = cmd.RegisterFlagCompletionFunc("node", t.completeNodes)
	return nodes
}
