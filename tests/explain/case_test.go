//go:build cluster

package explain

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/tendril-cni/tendril/tests/stage"
)

// failure is one file of testdata.
type failure struct {
	// name is the file's, and that of the namespace and the pod.
	name, path string
	archive    *txtar.Archive
	text       caseText
	// want and got are normalised answers.
	want, got string
}

// caseText is case.yaml.
type caseText struct {
	Networks []struct{ Name, Namespace, ResourceName, Config string }
	// Before is Ready before Pod is made, of the same networks.
	Before *podText
	Pod    podText
	// Apart has no other case's pods on the node.
	Apart bool
	// WithoutDaemon plays the case after all others, while no daemon runs.
	WithoutDaemon bool
}

type podText struct {
	// Networks and Default are the values of the annotations.
	Networks, Default string
	Limits            stage.Limits
	Node              int
	Placed            bool
}

func failures(t *testing.T) []*failure {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d cases (%v), want twenty and more", len(paths), err)
	}
	var out []*failure
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil || len(a.Files) != 2 || a.Files[0].Name != "case.yaml" || a.Files[1].Name != "want" {
			t.Fatalf("%s: want the parts case.yaml and want (%v)", path, err)
		}
		f := &failure{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), path: path, archive: a, want: string(a.Files[1].Data)}
		if f.want == "" && !*update {
			t.Fatalf("%s: want is empty: run with -args -update, and read what it says", path)
		}
		if err := yaml.UnmarshalStrict(a.Files[0].Data, &f.text); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, f)
	}
	return out
}

// namespaces are those that the case needs.
func (f *failure) namespaces() []string {
	out := []string{f.name}
	for _, n := range f.text.Networks {
		if n.Namespace != "" {
			out = append(out, n.Namespace)
		}
	}
	return out
}

// networks are the case's objects beside its pods.
func (f *failure) networks() (out []fmt.Stringer) {
	for _, n := range f.text.Networks {
		namespace := n.Namespace
		if namespace == "" {
			namespace = f.name
		}
		out = append(out, stage.Network{Name: n.Name, Namespace: namespace, ResourceName: n.ResourceName, Config: n.Config})
	}
	return out
}

func (f *failure) pod(name string, p podText) stage.Pod {
	out := stage.Pod{Name: name, Namespace: f.name, Networks: p.Networks, Node: p.Node, Placed: p.Placed}
	if p.Default != "" {
		out.Annotations = map[string]string{stage.DefaultNetworkAnnotation: p.Default}
	}
	if p.Limits != nil {
		out.Containers = []stage.Limits{p.Limits}
	}
	return out
}

// update writes the case anew with what it got.
func (f *failure) update() error {
	f.archive.Files[1].Data = []byte(f.got)
	return os.WriteFile(f.path, txtar.Format(f.archive), 0o644)
}

// vary is what differs from run to run, and what stands for it: names that a
// controller makes up, ids of calls, MACs, VFs as the kubelet chose them, and the host's links, of which
// other pods have some.
var vary = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`tendrild-[a-z0-9]{5}\b`), "tendrild-*"},
	{regexp.MustCompile(`\bcall [0-9a-z]+-[0-9a-z]+`), "call *"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<sandbox>"},
	{regexp.MustCompile(`\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "<mac>"},
	{regexp.MustCompile(`\b0000:01:1[0-9a-f]\.[0-7]\b`), "0000:01:1*"},
	{regexp.MustCompile(`\bVF \d of\b`), "VF * of"},
	{regexp.MustCompile(`a link on the host: [^()]*`), "a link on the host: <links> "},
}

// events is the link that lists the last events: their order and number are the
// kubelet's, and the links before it have judged them.
var events = regexp.MustCompile(`(?m)^\S+ +events .*\n(?: {22}.*\n)*`)

func normal(answer string) string {
	answer = events.ReplaceAllString(answer, "")
	for _, v := range vary {
		answer = v.pattern.ReplaceAllString(answer, v.instead)
	}
	return answer
}
