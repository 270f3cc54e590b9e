package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tendril-cni/tendril/cmd/kubectl-tendril/cli"
	"github.com/tendril-cni/tendril/cni/inspect"
	lab "github.com/tendril-cni/tendril/tests/lab/kube"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// update rewrites the wanted output of the cases by what is printed.
var update = flag.Bool("update", false, "rewrite the golden output")

// server has our kinds and those of the projects that are migrated from.
var server = lab.Shared{Options: lab.Options{CRDs: append(crds("../../../deployment/crds"), crds("testdata/crds")...)}}

func crds(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*.yaml")) // its one error is a bad pattern
	return files
}

func TestMain(m *testing.M) { server.Main(m) }

// world is a cluster as a case describes it.
type world struct {
	t       *testing.T
	api     *lab.API
	objects dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	// answers are what daemons say, by "node/path"; they go through the real
	// server and client of package inspect. "$name" in them is the uid of that pod.
	answers map[string]json.RawMessage
	uids    map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	config := server.Config(t)
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, api: server.API(t), objects: objects, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d)),
		answers: map[string]json.RawMessage{}, uids: map[string]string{}}
}

// apply makes the objects of a YAML text, their status included, and takes them
// away when the test ends.
func (w *world) apply(text []byte) {
	w.t.Helper()
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &u.Object); err != nil {
			w.t.Fatalf("%v:\n%s", err, doc)
		}
		if len(u.Object) > 0 {
			w.create(u)
		}
	}
}

func (w *world) create(u *unstructured.Unstructured) {
	w.t.Helper()
	ctx := w.t.Context()
	gvk := u.GroupVersionKind()
	m, err := w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		w.t.Fatal(err)
	}
	var r dynamic.ResourceInterface = w.objects.Resource(m.Resource)
	if m.Scope.Name() == "namespace" {
		if u.GetNamespace() == "" {
			u.SetNamespace("default")
		}
		r = w.objects.Resource(m.Resource).Namespace(u.GetNamespace())
	}
	if gvk.Kind == "Node" {
		hostname(u)
	}
	// A node keeps the taint that the API server gives to new ones: no controller
	// runs here that would take it away.
	status := u.Object["status"]
	made, err := r.Create(ctx, u, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) && gvk.Kind == "Namespace" {
		return
	}
	if err != nil {
		w.t.Fatalf("%s %s: %v", gvk.Kind, u.GetName(), err)
	}
	if gvk.Kind == "Pod" {
		w.uids[made.GetName()] = string(made.GetUID())
	}
	if gvk.Kind != "Namespace" {
		w.t.Cleanup(func() {
			now := int64(0)
			_ = r.Delete(context.Background(), made.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		})
	}
	if status == nil {
		return
	}
	made.Object["status"] = status
	if _, err := r.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		w.t.Fatalf("status of %s %s: %v", gvk.Kind, u.GetName(), err)
	}
}

// sweep takes away what a command made.
func (w *world) sweep() {
	ctx := context.Background()
	for resource, namespace := range map[schema.GroupVersionResource]string{
		v1alpha1.VFPolicies: "",
		{Group: "k8s.cni.cncf.io", Version: "v1", Resource: "network-attachment-definitions"}: "default",
		{Version: "v1", Resource: "configmaps"}:                                               "tendril-system",
	} {
		if err := w.objects.Resource(resource).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			w.t.Errorf("sweep %s: %v", resource.Resource, err)
		}
	}
}

// hostname gives a node the label that kubelets give.
func hostname(u *unstructured.Unstructured) {
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels["kubernetes.io/hostname"] = u.GetName()
	u.SetLabels(labels)
}

// Ask implements fleet.Asker: the question goes over a unix socket to the server
// that tendrild has, which answers what the case says.
func (w *world) Ask(ctx context.Context, daemon *corev1.Pod, path string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "ka")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, inspect.SocketName)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	sources := map[string]inspect.Source{}
	for name, text := range w.answers {
		if p, ok := strings.CutPrefix(name, daemon.Spec.NodeName+"/"); ok {
			for pod, uid := range w.uids {
				text = bytes.ReplaceAll(text, []byte(`"$`+pod+`"`), []byte(`"`+uid+`"`))
			}
			sources["/"+p] = func(context.Context, url.Values) (any, error) { return text, nil }
		}
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- inspect.Serve(serving, ln, sources) }()
	text, err := inspect.Ask(ctx, socket, path)
	stop()
	<-ended
	return text, err
}

// run runs the command line and returns what it printed and its exit code.
func (w *world) run(args ...string) (out, complaints string, code int) {
	var o, c strings.Builder
	code = cli.Run(w.t.Context(), append([]string{"--kubeconfig", w.api.Kubeconfig(lab.Admin), "--cache-dir", w.t.TempDir()}, args...), cli.Program{
		Version: "v1.0.0", Asker: w, Now: func() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) },
		Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &o, ErrOut: &c},
	})
	return o.String(), c.String(), code
}

// TestVerbs plays the cases of testdata: cluster.yaml is applied to a real API
// server, <node>/<path>.json is what that node's daemon says, files/ are given to
// the command line, and then each command of cmd has to print what want has. A
// case may begin with others (first line of its comment: "with a.txtar").
func TestVerbs(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal(cases, err)
	}
	for _, path := range cases {
		if strings.HasPrefix(filepath.Base(path), "_") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			t.Cleanup(w.sweep)
			dir := w.prepare(a)
			got := w.play(a, dir)
			if *update {
				w.rewrite(path, a, got)
				return
			}
			want := file(a, "want")
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("printed (-want +got):\n%s\nwhole:\n%s", diff, got)
			}
		})
	}
}

func file(a *txtar.Archive, name string) []byte {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return a.Files[i].Data
}

// prepare makes the cluster, and returns a directory with the case's files.
func (w *world) prepare(a *txtar.Archive) string {
	w.t.Helper()
	first, _, _ := strings.Cut(string(a.Comment), "\n")
	if names, ok := strings.CutPrefix(first, "with "); ok {
		for _, name := range strings.Fields(names) {
			base, err := txtar.ParseFile(filepath.Join("testdata", name))
			if err != nil {
				w.t.Fatal(err)
			}
			w.prepare(base)
		}
	}
	dir := w.t.TempDir()
	for _, f := range a.Files {
		switch {
		case f.Name == "cluster.yaml":
			w.apply(f.Data)
		case strings.HasPrefix(f.Name, "files/"):
			path := filepath.Join(dir, strings.TrimPrefix(f.Name, "files/"))
			if err := os.WriteFile(path, f.Data, 0o644); err != nil {
				w.t.Fatal(err)
			}
		case strings.HasSuffix(f.Name, ".json"):
			w.answers[strings.TrimSuffix(f.Name, ".json")] = json.RawMessage(f.Data)
		}
	}
	return dir
}

// play runs the commands, one a line, and returns all that was printed. $FILES in
// a command is the directory of the case's files.
func (w *world) play(a *txtar.Archive, dir string) string {
	w.t.Helper()
	var all strings.Builder
	for line := range strings.Lines(string(file(a, "cmd"))) {
		args := strings.Fields(strings.ReplaceAll(line, "$FILES", dir))
		out, complaints, code := w.run(args...)
		fmt.Fprintf(&all, "$ %s\n%s", strings.TrimSpace(line), out)
		if complaints != "" {
			fmt.Fprintf(&all, "(stderr)\n%s", complaints)
		}
		fmt.Fprintf(&all, "(exit code %d)\n", code)
	}
	return strings.ReplaceAll(all.String(), dir, "$FILES")
}

func (w *world) rewrite(path string, a *txtar.Archive, got string) {
	w.t.Helper()
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	if i < 0 {
		a.Files = append(a.Files, txtar.File{Name: "want"})
		i = len(a.Files) - 1
	}
	a.Files[i].Data = []byte(got)
	if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
		w.t.Fatal(err)
	}
}
