package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/explain"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// nodeStatus is one node at a glance.
type nodeStatus struct {
	Node string `json:"node"`
	// Daemon is ready, or what is wrong with it.
	Daemon  string `json:"daemon"`
	Version string `json:"version,omitempty"`
	// Attachments are those of the journal, nil when the daemon was not asked.
	Attachments *int `json:"attachments,omitempty"`
	Unfinished  int  `json:"unfinished,omitempty"`
	// VFs counts them by state.
	VFs map[string]int `json:"vfs,omitempty"`
	// Pools are the node's allocatable devices, by resource.
	Pools map[string]int64 `json:"pools,omitempty"`
	// Policies are those for the node, Applied whether all of them are.
	Policies []v1alpha1.PolicyState `json:"policies,omitempty"`
	Applied  string                 `json:"applied,omitempty"`
}

// clusterStatus is the answer of status.
type clusterStatus struct {
	Nodes   []nodeStatus `json:"nodes"`
	Webhook string       `json:"webhook"`
	// OK is false when something is wrong.
	OK bool `json:"ok"`
}

func (t *tool) status() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Nodes, daemons, pools, policies, attachments and the webhook at a glance", Args: cobra.NoArgs,
		Long: `status shows each node's daemon, what it has attached, its VFs by state, the
resources that the node offers and whether its VF policies are applied; and
whether injection is there. It exits with 1 when a daemon is not ready or a policy
is not applied.`,
	}
	out := t.output(cmd)
	out.run(cmd, func(ctx context.Context, f *fleet.Fleet, _ []string) error {
		s, err := t.look(ctx, f)
		if err != nil {
			return err
		}
		done, err := out.object("Status", s)
		if !done {
			err = t.printStatus(out, s)
		}
		if err == nil && !s.OK {
			err = exit{Bad, nil}
		}
		return err
	})
	return cmd
}

func (t *tool) look(ctx context.Context, f *fleet.Fleet) (clusterStatus, error) {
	s := clusterStatus{OK: true}
	nodes, err := f.Nodes(ctx)
	if err != nil {
		return s, err
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return s, err
	}
	f.Gather(ctx, daemons, nodeNames(nodes), inspect.PathDoctor, inspect.PathVFs)
	hosts := fleet.AskAll[inspect.Host](ctx, f, daemons, nodeNames(nodes), inspect.PathDoctor)
	vfs := fleet.AskAll[inspect.Inventory](ctx, f, daemons, nodeNames(nodes), inspect.PathVFs)
	for i, n := range nodes {
		one := nodeStatus{Node: n.Name, Daemon: "ready", Pools: extended(n)}
		switch d := daemons[n.Name]; {
		case d == nil:
			one.Daemon = "absent"
		case fleet.Trouble(d) != "":
			one.Daemon = fleet.Trouble(d)
		case hosts[i].Err != nil:
			t.warn("%s: %v", n.Name, hosts[i].Err)
		}
		if hosts[i].Err == nil {
			one.Version, one.Unfinished, one.Attachments = hosts[i].Value.Version, hosts[i].Value.Unfinished, &hosts[i].Value.Attachments
		}
		if vfs[i].Err == nil {
			one.VFs = map[string]int{}
			for _, v := range vfs[i].Value.VFs {
				one.VFs[v.State]++
			}
		}
		if state, err := vfState(ctx, f, n.Name); err == nil {
			one.policies(state)
		}
		s.OK = s.OK && one.Daemon == "ready" && (one.Applied == "" || one.Applied == "yes")
		s.Nodes = append(s.Nodes, one)
	}
	s.Webhook = saysOfWebhook(webhook(ctx, f, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace()}}))
	return s, nil
}

func (n *nodeStatus) policies(state v1alpha1.NodeVFState) {
	n.Policies = state.Status.Policies
	if len(n.Policies) == 0 {
		return
	}
	n.Applied = "yes"
	for _, p := range n.Policies {
		if !p.Ready {
			n.Applied = p.Name + ": " + p.Reason
		}
	}
}

// extended are the devices that a node offers.
func extended(n corev1.Node) map[string]int64 {
	out := map[string]int64{}
	for name, q := range n.Status.Allocatable {
		if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), "kubernetes.io/") {
			out[string(name)] = q.Value()
		}
	}
	return out
}

func saysOfWebhook(w explain.Webhook) string {
	switch {
	case w.Unread != "":
		return "not known: " + w.Unread
	case !w.Installed:
		return "not installed: pods have to ask for devices themselves"
	case w.Ready == 0:
		return "installed, no replica is ready: pods that ask for networks are refused"
	}
	return fmt.Sprintf("installed, replicas ready: %d", w.Ready)
}

func (t *tool) printStatus(out *output, s clusterStatus) error {
	tab := table{columns: columns("NODE", "DAEMON", "VERSION+", "ATTACHMENTS", "VFS", "OFFERS", "POLICIES")}
	for _, n := range s.Nodes {
		attachments := "?"
		if n.Attachments != nil {
			attachments = fmt.Sprint(*n.Attachments)
		}
		if n.Unfinished > 0 {
			attachments += fmt.Sprintf(" (%d unfinished)", n.Unfinished)
		}
		tab.add(n.Node, n.Daemon, n.Version, attachments, counts(n.VFs), counts(n.Pools), applied(n))
	}
	if err := out.rows(tab); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.Streams.Out, "\nInjection: %s\n", s.Webhook)
	return err
}

func applied(n nodeStatus) string {
	if n.Applied == "yes" {
		return fmt.Sprintf("%d applied", len(n.Policies))
	}
	return n.Applied
}

// counts prints numbers by their names.
func counts[N int | int64](of map[string]N) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		out = append(out, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(out, ", ")
}
