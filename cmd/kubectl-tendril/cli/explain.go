package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/explain"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/webhook/kube"
)

func (t *tool) explain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain POD",
		Short: "Say why a pod has, or has not yet, the networks that it asks for",
		Long: `explain walks the chain from a pod's annotation to its interfaces - definitions,
injection, scheduling, daemon, devices, addresses, attachments - and says at which
link it is stuck and what to do. It works while the pod is still pending, and
while the daemon is away.

It exits with 0 when the pod has its networks, and with 1 when it has not.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.completePods,
	}
	out := t.output(cmd)
	out.run(cmd, func(ctx context.Context, f *fleet.Fleet, args []string) error {
		name := strings.TrimPrefix(strings.TrimPrefix(args[0], "pods/"), "pod/")
		if name == "" || strings.Contains(name, "/") {
			return misused("%q is not allowed; allowed: the name of a pod, or pod/<name>", args[0])
		}
		facts, err := t.factsOf(ctx, f, t.namespace(), name)
		if err != nil {
			return err
		}
		return t.printReport(out, explain.Pod(facts))
	})
	return cmd
}

func (t *tool) printReport(out *output, r explain.Report) error {
	done, err := out.object("PodExplanation", r)
	if !done {
		var text bytes.Buffer
		if err = r.Print(&text); err == nil {
			err = t.paint(text.String())
		}
	}
	if err == nil && r.State != explain.OK {
		err = exit{Bad, nil}
	}
	return err
}

// factsOf gathers what is known of a pod. Only the pod itself has to be there:
// what else cannot be read is said to be unknown.
func (t *tool) factsOf(ctx context.Context, f *fleet.Fleet, namespace, name string) (explain.Facts, error) {
	pod, err := f.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return explain.Facts{}, misused("pod %s/%s: there is none of that name", namespace, name)
	}
	if err != nil {
		return explain.Facts{}, fmt.Errorf("read pod %s/%s: %w", namespace, name, err)
	}
	facts := explain.Facts{Pod: pod}
	events, err := f.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("involvedObject.name", name).String()})
	if err != nil {
		facts.Unheard = err.Error()
	} else {
		facts.Events = slices.DeleteFunc(events.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.UID != "" && e.InvolvedObject.UID != pod.UID
		})
	}
	if facts.Known, err = t.known(ctx); err != nil {
		facts.Unread = err.Error()
		facts.Known.Networks = nil
	}
	if facts.Nodes, err = f.Nodes(ctx); err != nil {
		t.warn("what nodes offer is not known: %v", err)
	}
	facts.Asked = t.demands(ctx, f)
	facts.Webhook = webhook(ctx, f, pod)
	facts.Daemon = daemonOf(ctx, f, pod)
	return facts, nil
}

// demands counts what the pods on each node ask for; nil when they cannot be
// listed.
func (t *tool) demands(ctx context.Context, f *fleet.Fleet) map[string]map[string]explain.Demand {
	pods, err := f.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.warn("who has which devices is not known: %v", err)
		return nil
	}
	out := map[string]map[string]explain.Demand{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if out[p.Spec.NodeName] == nil {
			out[p.Spec.NodeName] = map[string]explain.Demand{}
		}
		for r, n := range explain.Requested(p) {
			d := out[p.Spec.NodeName][r]
			out[p.Spec.NodeName][r] = explain.Demand{Count: d.Count + n, Pods: append(d.Pods, p.Namespace+"/"+p.Name)}
		}
	}
	return out
}

// webhook looks at the injection's registration and its replicas.
func webhook(ctx context.Context, f *fleet.Fleet, pod *corev1.Pod) explain.Webhook {
	var out explain.Webhook
	all, err := f.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain.Webhook{Unread: err.Error()}
	}
	for _, c := range all.Items {
		for _, w := range c.Webhooks {
			if w.Name != kube.MutatePods {
				continue
			}
			out.Installed = true
			if ns, err := f.Client.CoreV1().Namespaces().Get(ctx, pod.Namespace, metav1.GetOptions{}); err == nil && !selects(w.NamespaceSelector, ns.Labels) {
				out.Skips = "its namespace " + pod.Namespace + " is excluded"
			} else if !selects(w.ObjectSelector, pod.Labels) {
				out.Skips = "its labels exclude it"
			}
		}
	}
	replicas, err := f.Controllers(ctx)
	if err != nil {
		return explain.Webhook{Unread: err.Error()}
	}
	for i := range replicas {
		if fleet.Ready(&replicas[i]) {
			out.Ready++
		}
	}
	return out
}

// selects reports whether a selector has labels; one that cannot be read has all.
func selects(s *metav1.LabelSelector, have map[string]string) bool {
	if s == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err != nil || selector.Matches(labels.Set(have))
}

// lastCalls is how many of a pod's calls are looked at.
const lastCalls = 10

// daemonOf looks at the daemon of a pod's node and asks it about the pod.
func daemonOf(ctx context.Context, f *fleet.Fleet, asking *corev1.Pod) explain.Daemon {
	node := asking.Spec.NodeName
	if node == "" {
		return explain.Daemon{}
	}
	daemons, err := f.Daemons(ctx)
	if err != nil {
		return explain.Daemon{Unread: err.Error()}
	}
	pod := daemons[node]
	if pod == nil {
		return explain.Daemon{}
	}
	out := explain.Daemon{Name: pod.Name, Trouble: fleet.Trouble(pod)}
	traces := fmt.Sprintf("%s?pod=%s/%s&last=%d", inspect.PathTraces, asking.Namespace, asking.Name, lastCalls)
	f.Gather(ctx, daemons, []string{node}, traces, inspect.PathVFs, inspect.PathDoctor, inspect.PathNetworks, inspect.PathAttachments)
	if out.Attachments, err = fleet.Ask[[]inspect.Attachment](ctx, f, pod, inspect.PathAttachments); err != nil {
		out.Unasked = err.Error()
		return out
	}
	if calls, err := fleet.Ask[[]inspect.Trace](ctx, f, pod, traces); err == nil {
		out.Traces = calls
	}
	if inv, err := fleet.Ask[inspect.Inventory](ctx, f, pod, inspect.PathVFs); err == nil {
		out.Inventory = &inv
	}
	if host, err := fleet.Ask[inspect.Host](ctx, f, pod, inspect.PathDoctor); err == nil {
		out.Host = &host
	}
	if networks, err := fleet.Ask[inspect.Networks](ctx, f, pod, inspect.PathNetworks); err == nil {
		out.Networks = &networks
	}
	return out
}
