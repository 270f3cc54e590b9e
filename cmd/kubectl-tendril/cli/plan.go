package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// plannedStep is one step of a plan.
type plannedStep struct {
	Step   string `json:"step"`
	Policy string `json:"policy"`
	// Outcome is do, waits or refused; Why says what it waits for, or why not.
	Outcome string `json:"outcome"`
	Why     string `json:"why,omitempty"`
	// Pods use a VF that keeps the step from being taken.
	Pods []string `json:"pods,omitempty"`
}

// nodePlan is what policies would do to one node.
type nodePlan struct {
	Node     string        `json:"node"`
	Policies []string      `json:"policies"`
	Steps    []plannedStep `json:"steps"`
	// Unseen says why it cannot be planned.
	Unseen string `json:"unseen,omitempty"`
}

func (t *tool) plan() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "plan [-f FILE...]", Short: "Say what VF policies would do, to which nodes and pods", Args: cobra.NoArgs,
		Long: `plan says step by step what VF policies would do to each node that they select:
those of the cluster, with those of files over them, which need not be applied yet.
It plans as the nodes' daemons do, by what they see now, and changes nothing. Steps
that wait name the pods that use the VFs.

It exits with 1 when a policy of a file is refused, and with 3 when a node cannot be
planned for.`,
	}
	out, only := t.output(cmd), t.nodesFlag(cmd)
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "files with VF policies; - is standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		given, refused, err := t.policiesOf(files)
		if err != nil {
			return err
		}
		for _, r := range refused {
			fmt.Fprintln(t.Streams.ErrOut, r)
		}
		if len(refused) > 0 {
			return exit{Bad, nil}
		}
		f, err := t.fleet()
		if err != nil {
			return err
		}
		plans, err := t.plans(cmd.Context(), f, given, *only)
		if err != nil {
			return err
		}
		done, err := out.object("VFPlan", map[string]any{"nodes": orEmpty(plans)})
		if !done {
			err = t.paint(planText(plans))
		}
		if err == nil && slices.ContainsFunc(plans, func(p nodePlan) bool { return p.Unseen != "" }) {
			err = exit{Unseen, nil}
		}
		return err
	}
	return cmd
}

// policiesOf reads the policies of files; refused says what cannot be.
func (t *tool) policiesOf(files []string) (policies []v1alpha1.VFPolicy, refused []error, err error) {
	objects, err := read(files, t.Streams.In)
	if err != nil {
		return nil, nil, exit{Misused, err}
	}
	for _, o := range objects {
		if o.Kind != validate.VFPolicyKind {
			continue
		}
		p, err := decodePolicy(o)
		if err == nil {
			err = v1alpha1.Validate(&p)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", o.Source, err))
			continue
		}
		policies = append(policies, p)
	}
	if len(files) > 0 && len(policies)+len(refused) == 0 {
		return nil, nil, misused("plan: no VFPolicy in %s", strings.Join(files, ", "))
	}
	return policies, refused, nil
}

// decodePolicy reads a policy as the node's daemon does: a field that there is not
// is refused.
func decodePolicy(o validate.Object) (v1alpha1.VFPolicy, error) {
	var p v1alpha1.VFPolicy
	if o.Name == "" {
		return p, refusal.New("VFPolicy", "metadata.name", "", "the policy's name")
	}
	var u map[string]any
	if err := json.Unmarshal(o.Raw, &u); err != nil {
		return p, fmt.Errorf("VFPolicy %q: %w", o.Name, err)
	}
	if version := v1alpha1.GroupVersion.String(); u["apiVersion"] != version {
		return p, refusal.New(fmt.Sprintf("VFPolicy %q", o.Name), "apiVersion", u["apiVersion"], version)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u, &p, true); err != nil {
		return p, fmt.Errorf("VFPolicy %q: %w", o.Name, err)
	}
	return p, nil
}

// allPolicies are those of the cluster with those given over them.
func allPolicies(ctx context.Context, f *fleet.Fleet, given []v1alpha1.VFPolicy) ([]v1alpha1.VFPolicy, error) {
	list, err := f.Objects.Resource(v1alpha1.VFPolicies).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list VF policies: %w", err)
	}
	out := slices.Clone(given)
	for _, u := range list.Items {
		var p v1alpha1.VFPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
			return nil, fmt.Errorf("read VFPolicy %s: %w", u.GetName(), err)
		}
		if !slices.ContainsFunc(given, func(g v1alpha1.VFPolicy) bool { return g.Name == p.Name }) {
			out = append(out, p)
		}
	}
	return out, nil
}

// plans plans for the nodes that any policy selects.
func (t *tool) plans(ctx context.Context, f *fleet.Fleet, given []v1alpha1.VFPolicy, only []string) ([]nodePlan, error) {
	all, err := allPolicies(ctx, f, given)
	if err != nil {
		return nil, err
	}
	nodes, err := f.Nodes(ctx, only...)
	if err != nil {
		return nil, err
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return nil, err
	}
	mine := map[string][]vf.Policy{}
	for _, n := range nodes {
		mine[n.Name] = policiesFor(n, all)
	}
	nodes = slices.DeleteFunc(nodes, func(n corev1.Node) bool { return len(mine[n.Name]) == 0 })
	var out []nodePlan
	for _, a := range fleet.AskAll[inspect.Observed](ctx, f, daemons, nodeNames(nodes), inspect.PathObserved) {
		p := planFor(a, mine[a.Node])
		if a.Value.Incomplete != "" {
			t.warn("%s: %s", a.Node, a.Value.Incomplete)
		}
		out = append(out, p)
	}
	return out, nil
}

// policiesFor are the valid policies for a node.
func policiesFor(n corev1.Node, all []v1alpha1.VFPolicy) []vf.Policy {
	var out []vf.Policy
	for i := range all {
		if q, err := v1alpha1.Policy(&all[i]); err == nil && all[i].Selects(n.Labels) {
			out = append(out, q)
		}
	}
	return out
}

// planFor plans as the daemon of the node would, by what it sees.
func planFor(a fleet.Answer[inspect.Observed], policies []vf.Policy) nodePlan {
	out := nodePlan{Node: a.Node, Steps: []plannedStep{}}
	for _, q := range policies {
		out.Policies = append(out.Policies, q.Name)
	}
	slices.Sort(out.Policies)
	if a.Err != nil || a.Value.Snapshot == nil {
		out.Unseen = "its daemon has not looked at its NICs yet"
		if a.Err != nil {
			out.Unseen = a.Err.Error()
		}
		return out
	}
	users := a.Value.Users
	for _, s := range vf.Plan(a.Value.Observed, policies, func(v vf.Addr) string { return users[v.String()] }) {
		step := plannedStep{Step: s.String(), Policy: s.Policy, Outcome: "do"}
		switch {
		case s.Waits():
			step.Outcome, step.Why, step.Pods = "waits", s.Blocked.Error(), podsOf(a.Value, s)
		case s.Blocked != nil:
			step.Outcome, step.Why = "refused", s.Blocked.Error()
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

// podsOf are the users of the VFs that a step is about.
func podsOf(o inspect.Observed, s vf.Step) []string {
	pods := map[string]bool{}
	for _, v := range o.Snapshot.Of(s.PF) {
		if s.Index >= 0 && v.Index != s.Index {
			continue
		}
		if by, ok := strings.CutPrefix(o.Users[v.Addr.String()], "pod "); ok {
			pods[by] = true
		}
	}
	return slices.Sorted(maps.Keys(pods))
}

func planText(plans []nodePlan) string {
	var b strings.Builder
	pods := map[string]bool{}
	changed := 0
	for _, p := range plans {
		fmt.Fprintf(&b, "%s (%s)\n", p.Node, strings.Join(p.Policies, ", "))
		switch {
		case p.Unseen != "":
			fmt.Fprintf(&b, "  unknown  %s\n", p.Unseen)
		case len(p.Steps) == 0:
			b.WriteString("  nothing to do\n")
		default:
			changed++
		}
		for _, s := range p.Steps {
			fmt.Fprintf(&b, "  %-8s %s [policy %s]\n", s.Outcome, s.Step, s.Policy)
			if s.Why != "" {
				fmt.Fprintf(&b, "           %s\n", s.Why)
			}
			for _, pod := range s.Pods {
				pods[pod] = true
			}
		}
	}
	if len(plans) == 0 {
		return "no policy selects a node\n"
	}
	fmt.Fprintf(&b, "\n%d of %d nodes have something to do", changed, len(plans))
	if len(pods) > 0 {
		fmt.Fprintf(&b, "; these pods are waited for: %s", strings.Join(slices.Sorted(maps.Keys(pods)), ", "))
	}
	b.WriteString("\n")
	return b.String()
}
