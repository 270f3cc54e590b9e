package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/bundle"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/explain"
	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/fleet"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
	"github.com/tendril-cni/tendril/webhook/validate"
)

// logLines is how much of each log is taken.
const logLines = 5000

// mostExplained is how many pods that lack networks are explained.
const mostExplained = 30

func (t *tool) bundle() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "bundle", Short: "Collect what somebody needs who is to look at a problem, without secrets", Args: cobra.NoArgs,
		Long: `bundle writes an archive (tar.gz) with Tendril's objects, networks, nodes, events,
the daemons' answers and logs, the results of status and doctor, and explanations
of pods that lack networks.

Secrets are not in it: Secret objects are not read, of users' pods there is neither
environment nor command, and what looks like a token, a key or a password is taken
out of every file. Names of pods, nodes and networks, and addresses, are in it: look
it through before you send it.`,
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "the archive's name; - is standard output (default tendril-<time>.tar.gz)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := t.fleet()
		if err != nil {
			return err
		}
		// The first look decides whether the cluster can be seen at all: without it no
		// archive of before gives way.
		nodes, err := f.Nodes(cmd.Context())
		if err != nil {
			return err
		}
		name := "tendril-" + t.Now().UTC().Format("20060102T150405")
		out := t.Streams.Out
		if path != "-" {
			path = cmp.Or(path, name+".tar.gz")
			file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return exit{Misused, err}
			}
			defer file.Close()
			out = file
		}
		return t.collect(cmd.Context(), f, nodes, bundle.New(out, name, t.Now()), path)
	}
	return cmd
}

// collector fills an archive. What cannot be had is noted and passed over.
type collector struct {
	*tool
	f       *fleet.Fleet
	archive *bundle.Archive
	missing []string
	err     error
}

func (t *tool) collect(ctx context.Context, f *fleet.Fleet, nodes []corev1.Node, a *bundle.Archive, path string) error {
	c := &collector{tool: t, f: f, archive: a}
	c.objects(ctx)
	c.nodes(nodes)
	pods := c.pods(ctx)
	c.own(ctx)
	c.daemons(ctx, nodes)
	c.verbs(ctx)
	c.explained(ctx, pods)
	c.text("README.txt", c.readme())
	if err := a.Close(); c.err == nil {
		c.err = err
	}
	if c.err == nil && path != "-" {
		fmt.Fprintf(t.Streams.Out, "%s: %d files\n", path, len(a.Names))
	}
	for _, m := range c.missing {
		t.warn("%s", m)
	}
	return c.err
}

func (c *collector) text(name string, text []byte) {
	if c.err == nil {
		c.err = c.archive.Add(name, text)
	}
}

func (c *collector) yaml(name string, v any) {
	text, err := yaml.Marshal(v)
	if err != nil {
		c.lack("%s: %v", name, err)
		return
	}
	c.text(name, text)
}

// lack notes what is not in the archive.
func (c *collector) lack(format string, args ...any) {
	c.missing = append(c.missing, fmt.Sprintf(format, args...))
}

// objects are the kinds that are Tendril's, or that it works by.
func (c *collector) objects(ctx context.Context) {
	for _, r := range []schema.GroupVersionResource{
		{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"},
		{Group: "k8s.cni.cncf.io", Version: "v1alpha1", Resource: "ipamclaims"},
		v1alpha1.VFPolicies, v1alpha1.NodeVFStates, v1alpha1.GroupVersion.WithResource("addressblocks"),
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
	} {
		list, err := c.f.Objects.Resource(r).List(ctx, metav1.ListOptions{})
		if err != nil {
			c.lack("%s: %v", r.Resource, err)
			continue
		}
		var out []any
		for _, u := range list.Items {
			if r.Group != "admissionregistration.k8s.io" || strings.Contains(u.GetName(), "tendril") {
				out = append(out, bundle.Map(u.Object))
			}
		}
		c.yaml("objects/"+r.Resource+".yaml", out)
	}
}

func (c *collector) nodes(nodes []corev1.Node) {
	var out []corev1.Node
	for _, n := range nodes {
		one := corev1.Node{Spec: n.Spec, Status: n.Status}
		one.Name, one.UID, one.Labels, one.CreationTimestamp = n.Name, n.UID, n.Labels, n.CreationTimestamp
		one.Status.Images = nil
		out = append(out, one)
	}
	c.yaml("objects/nodes.yaml", out)
}

// pods are those that ask for networks, with their events.
func (c *collector) pods(ctx context.Context) []corev1.Pod {
	list, err := c.f.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.lack("pods: %v", err)
		return nil
	}
	asking := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.Annotations[validate.NetworksAnnotation] == "" && p.Annotations[validate.DefaultNetworkAnnotation] == ""
	})
	var out []corev1.Pod
	uids := map[string]bool{}
	for _, p := range asking {
		out = append(out, bundle.Pod(p))
		uids[string(p.UID)] = true
	}
	c.yaml("objects/pods.yaml", out)
	events, err := c.f.Client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.lack("events: %v", err)
		return asking
	}
	var lines bytes.Buffer
	for _, e := range events.Items {
		if uids[string(e.InvolvedObject.UID)] || e.InvolvedObject.Kind == "Node" || strings.HasPrefix(e.InvolvedObject.Name, "tendril") {
			fmt.Fprintf(&lines, "%s %s %s %s/%s x%d: %s\n", e.LastTimestamp.UTC().Format("2006-01-02T15:04:05Z"), e.Type, e.Reason,
				e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Count, strings.Join(strings.Fields(e.Message), " "))
		}
	}
	c.text("events.txt", lines.Bytes())
	return asking
}

// own are Tendril's pods and their logs, and the configuration that they read.
func (c *collector) own(ctx context.Context) {
	var out []corev1.Pod
	spaces := map[string]bool{}
	for _, label := range []string{fleet.DaemonLabel, fleet.ControllerLabel} {
		list, err := c.f.Client.CoreV1().Pods(c.f.System).List(ctx, metav1.ListOptions{LabelSelector: label})
		if err != nil {
			c.lack("pods with %s: %v", label, err)
			continue
		}
		for _, p := range list.Items {
			out = append(out, bundle.Own(p))
			spaces[p.Namespace] = true
			c.logs(ctx, p)
		}
	}
	c.yaml("objects/tendril-pods.yaml", out)
	for ns := range spaces {
		list, err := c.f.Client.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			c.lack("ConfigMaps of %s: %v", ns, err)
			continue
		}
		for _, m := range list.Items {
			if m.Name == "kube-root-ca.crt" {
				continue
			}
			for key, text := range m.Data {
				c.text("config/"+ns+"/"+m.Name+"/"+key, []byte(bundle.Document(text)))
			}
		}
	}
}

func (c *collector) logs(ctx context.Context, p corev1.Pod) {
	for _, container := range p.Spec.Containers {
		for _, previous := range []bool{false, true} {
			name := fmt.Sprintf("logs/%s/%s.log", p.Name, container.Name)
			if previous {
				if !restarted(p, container.Name) {
					continue
				}
				name = strings.TrimSuffix(name, ".log") + "-previous.log"
			}
			lines := int64(logLines)
			text, err := c.f.Client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container.Name, Previous: previous, TailLines: &lines}).DoRaw(ctx)
			if err != nil {
				c.lack("%s: %v", name, err)
				continue
			}
			c.text(name, text)
		}
	}
}

func restarted(p corev1.Pod, container string) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == container && s.RestartCount > 0 })
}

// daemons are the answers of the nodes.
func (c *collector) daemons(ctx context.Context, nodes []corev1.Node) {
	daemons, err := c.f.Daemons(ctx)
	if err != nil {
		c.lack("the daemons' answers: %v", err)
		return
	}
	paths := []string{inspect.PathAttachments, inspect.PathVFs, inspect.PathAddresses, inspect.PathPools, inspect.PathNetworks, inspect.PathObserved, inspect.PathDoctor, inspect.PathTraces}
	c.f.Gather(ctx, daemons, nodeNames(nodes), paths...)
	for _, n := range nodes {
		if daemons[n.Name] == nil {
			continue
		}
		for _, path := range paths {
			text, err := c.f.Raw(ctx, daemons[n.Name], path)
			if err != nil {
				c.lack("%s of %s: %v", path, n.Name, err)
				continue
			}
			c.text("nodes/"+n.Name+path+".json", text)
		}
	}
}

// verbs are what a person would ask first.
func (c *collector) verbs(ctx context.Context) {
	for name, run := range map[string]func(*tool) error{
		"status.txt": func(t *tool) error {
			s, err := t.look(ctx, c.f)
			if err != nil {
				return err
			}
			return t.printStatus(&output{tool: t, format: "wide"}, s)
		},
		"doctor.txt": func(t *tool) error {
			checks, err := t.checks(ctx, c.f, nil)
			if err != nil {
				return err
			}
			return t.printChecks(&output{tool: t, format: "wide"}, checks, true)
		},
	} {
		c.text(name, c.captured(name, run))
	}
}

// captured runs a verb with its output in memory.
func (c *collector) captured(name string, run func(*tool) error) []byte {
	var text bytes.Buffer
	quiet := *c.tool
	quiet.Streams = genericiooptions.IOStreams{In: strings.NewReader(""), Out: &text, ErrOut: io.Writer(&text)}
	var e exit
	if err := run(&quiet); err != nil && !asExit(err, &e) {
		c.lack("%s: %v", name, err)
	}
	return text.Bytes()
}

// explained are the pods that have not what they ask for.
func (c *collector) explained(ctx context.Context, pods []corev1.Pod) {
	n := 0
	for _, p := range pods {
		if fleet.Ready(&p) || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		if n++; n > mostExplained {
			c.lack("explanations of further pods: there are more than %d", mostExplained)
			return
		}
		name := fmt.Sprintf("explain/%s/%s.txt", p.Namespace, p.Name)
		c.text(name, c.captured(name, func(t *tool) error {
			facts, err := t.factsOf(ctx, c.f, p.Namespace, p.Name)
			if err != nil {
				return err
			}
			r := explain.Pod(facts)
			return r.Print(t.Streams.Out)
		}))
	}
}

func (c *collector) readme() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Support archive of kubectl-tendril %s, made %s.\n\n", c.Version, c.Now().UTC().Format("2006-01-02T15:04:05Z"))
	b.WriteString("Without secrets: what looked like one reads REDACTED.\n")
	if len(c.missing) > 0 {
		b.WriteString("\nNot in here:\n")
	}
	for _, m := range c.missing {
		fmt.Fprintf(&b, "  %s\n", m)
	}
	return b.Bytes()
}
