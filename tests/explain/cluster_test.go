//go:build cluster

package explain

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

var update = flag.Bool("update", false, "rewrite what the cases want by what is said")

func TestMain(m *testing.M) { cluster.Main(m) }

// TestOnTheCluster plays all cases at once, so that the waiting is shared; the one
// without the daemon comes last.
func TestOnTheCluster(t *testing.T) {
	p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1, Config: configuration})}
	all := failures(t)
	last := slices.IndexFunc(all, func(f *failure) bool { return f.text.WithoutDaemon })
	p.Acts(t,
		suite.Scene{Name: "Failures", Run: func(t *testing.T) { p.all(t, slices.Delete(slices.Clone(all), last, last+1)) }},
		suite.Scene{Name: "WithoutTheDaemon", Run: func(t *testing.T) { p.withoutDaemon(t, all[last]) }},
	)
}

// configuration of the node: a pool beside that of the examples, which nothing is
// in, and networks that are their namespaces' own.
const configuration = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tendril-pools","namespace":"tendril-system"},
	"data":{"config.json":"{\"resourceList\":[{\"resourcePrefix\":\"tendril.dev\",\"resourceName\":\"sriov0\",\"selectors\":{\"drivers\":[\"igbvf\"],\"pfNames\":[\"sriov0\"]}},{\"resourcePrefix\":\"tendril.dev\",\"resourceName\":\"empty\",\"selectors\":{\"pfNames\":[\"ens77\"]}}]}"}}
---
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tendril-networks","namespace":"tendril-system"},
	"data":{"networks.json":"{\"namespaceIsolation\":true}"}}`

type play struct{ *suite.Suite }

// all makes the pods of all cases and holds the answers against the files.
func (p *play) all(t *testing.T, cases []*failure) {
	// A master that no other case uses.
	p.Shell(t, 1, "ip link add duo0 type dummy; ip link set duo0 up")
	p.prepare(t, cases...)
	var first, pods []fmt.Stringer
	for _, f := range cases {
		if f.text.Before != nil {
			first = append(first, f.pod("before", *f.text.Before))
		}
		pods = append(pods, f.pod(f.name, f.text.Pod))
	}
	p.Create(t, first...)
	p.Wait(t, "the pods that have to be there before", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "pods", "-A", "--field-selector=metadata.name=before", "-o", `jsonpath={range .items[*]}{.metadata.namespace} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
		return out, strings.Count(out, " True\n") == len(first), err
	})
	start := time.Now()
	p.Create(t, pods...)
	p.explain(t, cases)
	t.Logf("%d pods explained after %.0fs", len(cases), time.Since(start).Seconds())
}

// withoutDaemon takes the daemon off the node before the pod is made.
func (p *play) withoutDaemon(t *testing.T, f *failure) {
	p.prepare(t, f)
	p.Ask(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}`)
	p.Wait(t, "the daemon to be off the node", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-o", "name")
		return out, err == nil && strings.TrimSpace(out) == "", err
	})
	p.Create(t, f.pod(f.name, f.text.Pod))
	p.explain(t, []*failure{f})
}

// prepare makes the namespaces and the networks of cases.
func (p *play) prepare(t *testing.T, cases ...*failure) {
	t.Helper()
	var spaces []fmt.Stringer
	var networks []fmt.Stringer
	for _, f := range cases {
		for _, name := range f.namespaces() {
			spaces = append(spaces, namespace(name))
		}
		networks = append(networks, f.networks()...)
	}
	p.Create(t, spaces...)
	p.Create(t, networks...)
	p.Wait(t, "the service accounts of the namespaces", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "serviceaccounts", "-A", "--field-selector=metadata.name=default", "-o", `jsonpath={range .items[*]}{.metadata.namespace}{"\n"}{end}`)
		for _, s := range spaces {
			if !slices.Contains(strings.Fields(out), string(s.(namespace))) {
				return "none in " + string(s.(namespace)), false, err
			}
		}
		return "", true, nil
	})
}

type namespace string

func (n namespace) String() string {
	text, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]string{"name": string(n)}})
	return string(text)
}

// explain asks for all cases until each has the answer that its file wants, or time
// is up.
func (p *play) explain(t *testing.T, cases []*failure) {
	t.Helper()
	var all sync.WaitGroup
	turns := make(chan struct{}, 4)
	errs := make([]error, len(cases))
	for i, f := range cases {
		all.Go(func() { errs[i] = p.settle(f, turns) }) // ends with Await
	}
	all.Wait()
	for i, f := range cases {
		t.Run(f.name, func(t *testing.T) {
			switch {
			case *update && f.got != "":
				p.Must(t, f.update())
			case errs[i] != nil:
				t.Errorf("%v\n(-want +got)\n%s", errs[i], cmp.Diff(f.want, f.got))
			}
		})
	}
}

// settle asks until the answer is that of the file; for an update, until two in a
// row are the same and tell of what the node or the scheduler has said. turns are
// how many may ask at once.
func (p *play) settle(f *failure, turns chan struct{}) error {
	return p.Await(p.Ctx, "kubectl tendril explain "+f.name, func(ctx context.Context) (string, bool, error) {
		turns <- struct{}{}
		out, code, err := p.Tendril(ctx, "explain", f.name, "-n", f.name)
		<-turns
		if err != nil || code > 1 {
			return out, false, err
		}
		before := f.got
		f.got = normal(out) + fmt.Sprintf("(exit code %d)\n", code)
		if !*update {
			return "", f.got == f.want, nil
		}
		told := code == 0 || strings.Contains(out, "FailedCreatePodSandBox") || strings.Contains(out, "FailedScheduling") || strings.Contains(out, "no tendrild runs")
		return "", told && f.got == before, nil
	})
}
