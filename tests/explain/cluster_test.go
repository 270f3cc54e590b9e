//go:build cluster

package explain

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
	"github.com/tendril-cni/tendril/tests/stage"
	"github.com/tendril-cni/tendril/tests/stage/suite"
)

var update = flag.Bool("update", false, "rewrite what the cases want by what is said")

func TestMain(m *testing.M) { cluster.Main(m) }

// atOnce is how many cases are on the node at once: a kubelet on an emulated machine
// tries each pod that fails again and again.
const atOnce = 8

// TestOnTheCluster plays the cases some at once, so that the waiting is shared; those
// that want the node for themselves, or without its daemon, come last.
func TestOnTheCluster(t *testing.T) {
	all := failures(t)
	p := &play{Suite: suite.Open(t, stage.Options{Nodes: 1, Config: configuration})}
	// A master that no other case uses.
	p.Shell(t, 1, "ip link add duo0 type dummy; ip link set duo0 up")
	p.prepare(t, all)
	var shared, apart, away []*failure
	for _, f := range all {
		switch {
		case f.text.WithoutDaemon:
			away = append(away, f)
		case f.text.Apart:
			apart = append(apart, f)
		default:
			shared = append(shared, f)
		}
	}
	var scenes []suite.Scene
	for batch := range slices.Chunk(shared, atOnce) {
		scenes = append(scenes, suite.Scene{Name: "From" + batch[0].name, Run: func(t *testing.T) { p.play(t, batch) }})
	}
	for _, f := range apart {
		scenes = append(scenes, suite.Scene{Name: "Apart", Run: func(t *testing.T) { p.play(t, []*failure{f}) }})
	}
	if len(away) > 0 {
		scenes = append(scenes, suite.Scene{Name: "WithoutTheDaemon", Run: func(t *testing.T) {
			p.daemonAway(t)
			p.play(t, away)
		}})
	}
	p.Scenes(t, scenes...)
}

// configuration of the node: a pool beside that of the examples, which nothing is
// in, and networks that are their namespaces' own.
const configuration = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tendril-pools","namespace":"tendril-system"},
	"data":{"config.json":"{\"resourceList\":[{\"resourcePrefix\":\"tendril.dev\",\"resourceName\":\"sriov0\",\"selectors\":{\"drivers\":[\"igbvf\"],\"pfNames\":[\"sriov0\"]}},{\"resourcePrefix\":\"tendril.dev\",\"resourceName\":\"empty\",\"selectors\":{\"pfNames\":[\"ens77\"]}}]}"}}
---
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tendril-networks","namespace":"tendril-system"},
	"data":{"networks.json":"{\"namespaceIsolation\":true}"}}`

type play struct{ *suite.Suite }

// play makes the pods of some cases, holds the answers against the files, and takes
// the pods away.
func (p *play) play(t *testing.T, cases []*failure) {
	var first, pods []fmt.Stringer
	for _, f := range cases {
		if f.text.Before != nil {
			first = append(first, f.pod("before", *f.text.Before))
		}
		pods = append(pods, f.pod(f.name, f.text.Pod))
	}
	if len(first) > 0 {
		p.Create(t, first...)
		p.Wait(t, "the pods that have to be there before", func(ctx context.Context) (string, bool, error) {
			out, err := p.Kubectl(ctx, "get", "pods", "-A", "--field-selector=metadata.name=before", "-o", `jsonpath={range .items[*]}{.metadata.namespace} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
			return out, strings.Count(out, " True\n") == len(first), err
		})
	}
	start := time.Now()
	p.Create(t, pods...)
	p.Wait(t, "every pod to run or to be refused", func(ctx context.Context) (string, bool, error) { return p.judged(ctx, cases) })
	for _, f := range cases {
		t.Run(f.name, func(t *testing.T) { p.explained(t, f) })
	}
	t.Logf("%d pods explained after %.0fs", len(cases), time.Since(start).Seconds())
	p.Ask(t, "delete", "pods", "-A", "-l", "!app.kubernetes.io/part-of", "--wait=false")
	p.Wait(t, "the pods to be gone", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "pods", "-A", "-l", "!app.kubernetes.io/part-of", "-o", "name")
		return out, err == nil && strings.TrimSpace(out) == "", err
	})
}

// judged reports whether each pod runs, or has an event of who did not let it.
func (p *play) judged(ctx context.Context, cases []*failure) (string, bool, error) {
	said, err := p.Kubectl(ctx, "get", "events", "-A", "-o", `jsonpath={range .items[*]}{.involvedObject.namespace}/{.involvedObject.name} {.reason}{"\n"}{end}`)
	if err != nil {
		return "", false, err
	}
	for _, f := range cases {
		ok := slices.ContainsFunc([]string{"FailedCreatePodSandBox", "FailedScheduling", "NetworkNotReady", "Started"}, func(reason string) bool {
			return strings.Contains(said, f.name+"/"+f.name+" "+reason+"\n")
		})
		if !ok {
			return "nothing of " + f.name, false, nil
		}
	}
	return "", true, nil
}

// daemonAway takes the daemon off the node.
func (p *play) daemonAway(t *testing.T) {
	p.Ask(t, "-n", "tendril-system", "patch", "daemonset", "tendrild", "--type=merge", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}`)
	p.Wait(t, "the daemon to be off the node", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "-n", "tendril-system", "get", "pods", "-o", "name")
		return out, err == nil && strings.TrimSpace(out) == "", err
	})
}

// prepare makes the namespaces and the networks of cases.
func (p *play) prepare(t *testing.T, cases []*failure) {
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

// explained asks until the answer is that of the file; for an update, until two in a
// row are the same.
func (p *play) explained(t *testing.T, f *failure) {
	before := ""
	err := p.Await(p.Ctx, "the answer", func(ctx context.Context) (string, bool, error) {
		out, code, err := p.Tendril(ctx, "explain", f.name, "-n", f.name)
		if err != nil || code < 0 || code > 1 || strings.Contains(out, "was not asked") {
			return out, false, err
		}
		before, f.got = f.got, normal(out)+fmt.Sprintf("(exit code %d)\n", code)
		if *update {
			return f.got, f.got == before, nil
		}
		return "another answer", f.got == f.want, nil
	})
	if err != nil {
		t.Fatalf("%v\n(-want +got)\n%s", err, cmp.Diff(f.want, f.got))
	}
	if *update {
		p.Must(t, f.update())
	}
}
