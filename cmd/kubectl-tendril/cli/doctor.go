package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/doctor"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/kube"
)

func (t *tool) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check nodes and cluster: IOMMU, modules, kubelet, runtime, CNI files, other stacks, versions", Args: cobra.NoArgs,
		Long: `doctor checks whether nodes and cluster are fit for networks and says what to do
about what is not. "fail" keeps pods from their networks, or VFs from being given
out; "warn" is to be known of.

It exits with 1 when a check fails.`,
	}
	out, only := t.output(cmd), t.nodesFlag(cmd)
	all := cmd.Flags().Bool("all", false, "show what is well, too")
	out.run(cmd, func(ctx context.Context, f *fleet.Fleet, _ []string) error {
		checks, err := t.checks(ctx, f, *only)
		if err != nil {
			return err
		}
		return t.printChecks(out, checks, *all)
	})
	return cmd
}

func (t *tool) printChecks(out *output, checks []doctor.Check, all bool) error {
	counts := map[doctor.Result]int{}
	tab := table{columns: columns("RESULT", "NODE", "CHECK", "SAYS", "DO")}
	for _, c := range checks {
		counts[c.Result]++
		if c.Result != doctor.OK || all {
			tab.add(string(c.Result), cmp.Or(c.Node, "(cluster)"), c.Name, c.Says, c.Do)
		}
	}
	done, err := out.object("Checks", map[string]any{"items": orEmpty(checks), "ok": counts[doctor.Fail] == 0})
	if !done && len(tab.rows) > 0 {
		err = out.rows(tab)
	}
	if !done && err == nil {
		_, err = fmt.Fprintf(t.Streams.Out, "%d checks: %d ok, %d warn, %d fail, %d unknown\n", len(checks),
			counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Unknown])
	}
	if err == nil && counts[doctor.Fail] > 0 {
		err = exit{Bad, nil}
	}
	return err
}

func (t *tool) checks(ctx context.Context, f *fleet.Fleet, only []string) ([]doctor.Check, error) {
	nodes, err := f.Nodes(ctx, only...)
	if err != nil {
		return nil, err
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := allPolicies(ctx, f, nil)
	if err != nil {
		t.warn("whether policies want vfio-pci is not known: %v", err)
	}
	names := nodeNames(nodes)
	f.Gather(ctx, daemons, names, inspect.PathDoctor, inspect.PathVFs, inspect.PathPools, inspect.PathNetworks)
	hosts := fleet.AskAll[inspect.Host](ctx, f, daemons, names, inspect.PathDoctor)
	vfs := fleet.AskAll[inspect.Inventory](ctx, f, daemons, names, inspect.PathVFs)
	pools := fleet.AskAll[inspect.Pools](ctx, f, daemons, names, inspect.PathPools)
	networks := fleet.AskAll[inspect.Networks](ctx, f, daemons, names, inspect.PathNetworks)
	versions := map[string][]string{}
	var perNode []doctor.Check
	for i, n := range nodes {
		facts := nodeFacts(n, daemons[n.Name], policies, t.Version)
		if hosts[i].Err != nil {
			facts.Unasked = hosts[i].Err.Error()
		} else {
			facts.Host = &hosts[i].Value
			versions[facts.Host.Version] = append(versions[facts.Host.Version], n.Name)
		}
		facts.Inventory, facts.Pools, facts.Networks = known(vfs[i]), known(pools[i]), known(networks[i])
		perNode = append(perNode, doctor.Node(facts)...)
	}
	return append(doctor.Cluster(t.clusterFacts(ctx, f, versions)), perNode...), nil
}

// known is an answer, nil when there is none.
func known[T any](a fleet.Answer[T]) *T {
	if a.Err != nil {
		return nil
	}
	return &a.Value
}

func nodeFacts(n corev1.Node, daemon *corev1.Pod, policies []v1alpha1.VFPolicy, version string) doctor.NodeFacts {
	facts := doctor.NodeFacts{Node: n, Version: version, Userspace: doctor.WantsUserspace(policiesFor(n, policies))}
	if daemon != nil {
		facts.Daemon, facts.Trouble = daemon.Name, fleet.Trouble(daemon)
	}
	return facts
}

// kinds are what has to be installed.
var kinds = []schema.GroupVersionResource{
	{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"},
	v1alpha1.VFPolicies, v1alpha1.NodeVFStates, v1alpha1.GroupVersion.WithResource("addressblocks"),
}

func (t *tool) clusterFacts(ctx context.Context, f *fleet.Fleet, versions map[string][]string) doctor.ClusterFacts {
	facts := doctor.ClusterFacts{Versions: versions, Others: map[string][]string{}}
	if v, err := f.Client.Discovery().ServerVersion(); err == nil {
		facts.Version = v.GitVersion
	}
	for _, k := range kinds {
		list, err := f.Client.Discovery().ServerResourcesForGroupVersion(k.GroupVersion().String())
		if err != nil || !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == k.Resource }) {
			facts.Missing = append(facts.Missing, k.Resource+"."+k.Group)
		}
	}
	w := webhook(ctx, f, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace()}})
	facts.Installed, facts.Ready, facts.Unread = w.Installed, w.Ready, w.Unread
	facts.Trusted = trusted(ctx, f)
	t.others(ctx, f, facts.Others)
	return facts
}

// trusted reports whether the injection's registration has an authority.
func trusted(ctx context.Context, f *fleet.Fleet) bool {
	all, err := f.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false
	}
	for _, c := range all.Items {
		for _, w := range c.Webhooks {
			if w.Name == kube.MutatePods && len(w.ClientConfig.CABundle) > 0 {
				return true
			}
		}
	}
	return false
}

// others finds the workloads of other network stacks by their images.
func (t *tool) others(ctx context.Context, f *fleet.Fleet, into map[string][]string) {
	add := func(kind string, m metav1.ObjectMeta, spec corev1.PodSpec) {
		seen := map[string]bool{}
		for _, c := range append(slices.Clone(spec.InitContainers), spec.Containers...) {
			if what := doctor.Other(c.Image); what != "" && !seen[what] {
				seen[what] = true
				into[what] = append(into[what], strings.Join([]string{kind, m.Namespace + "/" + m.Name}, " "))
			}
		}
	}
	sets, err := f.Client.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.warn("other network stacks are not known: %v", err)
		return
	}
	for _, d := range sets.Items {
		add("DaemonSet", d.ObjectMeta, d.Spec.Template.Spec)
	}
	deployments, err := f.Client.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.warn("other network stacks are not all known: %v", err)
		return
	}
	for _, d := range deployments.Items {
		add("Deployment", d.ObjectMeta, d.Spec.Template.Spec)
	}
}
