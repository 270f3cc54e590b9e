package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/tests/lab/cluster"
)

// Resource is the extended resource that deployment/examples/pools.yaml makes of
// the VFs of sriov0.
const Resource = "tendril.dev/sriov0"

// apiServer tells the daemon where the API server is: the lab has no kube-proxy.
const apiServer = `apiVersion: v1
kind: ConfigMap
metadata: {name: tendril-apiserver, namespace: tendril-system}
data: {KUBERNETES_SERVICE_HOST: "10.77.0.1", KUBERNETES_SERVICE_PORT: "6443"}
`

// accounts is the group of the service accounts of Tendril's own namespace.
const accounts = "system:serviceaccounts:tendril-system"

// Stage is a cluster with Tendril on it.
type Stage struct {
	*cluster.Cluster
	root string
	say  func(format string, args ...any)
}

// Options for Up.
type Options struct {
	// Nodes is 1 or 2.
	Nodes int
	// Root is the repository: deployment/ and bin/tendril.tar (make image) are
	// below it.
	Root string
	// Say prints progress; nil for none.
	Say func(format string, args ...any)
	// Images are archives of images that the nodes have from the start beside
	// Tendril's.
	Images []string
	// Kubelet replaces top-level fields of the kubelets' configuration.
	Kubelet map[string]any
	// Config are objects instead of deployment/examples/pools.yaml: the ConfigMaps
	// that the daemon reads. Of its pools one has to be Resource.
	Config string
	// Bare leaves the installation to the caller: the nodes have the image, and the
	// cluster the namespace and where its API server is.
	Bare bool
}

// Up starts a cluster and installs Tendril on it.
func Up(ctx context.Context, o Options) (*Stage, error) {
	s := &Stage{root: o.Root, say: o.Say}
	if s.say == nil {
		s.say = func(string, ...any) {}
	}
	image := filepath.Join(o.Root, "bin", "tendril.tar")
	if _, err := os.Stat(image); err != nil {
		return nil, fmt.Errorf("find image (run make image first): %w", err)
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Nodes: o.Nodes, Images: append([]string{image}, o.Images...), Kubelet: o.Kubelet, Audit: accounts,
		Progress: func(what string) { s.say("%s", what) },
	})
	if err != nil {
		return nil, err
	}
	s.Cluster = c
	if err := s.install(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("install Tendril: %w", err), s.explain(), c.Close())
	}
	return s, nil
}

func (s *Stage) install(ctx context.Context, o Options) error {
	if err := s.Prepare(ctx); err != nil || o.Bare {
		return err
	}
	if err := s.configure(ctx, o.Config); err != nil {
		return err
	}
	if err := s.ApplyFiles(ctx, "deployment/manifests/node.yaml"); err != nil {
		return err
	}
	s.say("manifests applied")
	return s.Ready(ctx)
}

// Prepare makes the namespace and says in it where the API server is. What the
// daemon reads is there before the daemon: the kubelet looks for a ConfigMap again
// only after a while.
func (s *Stage) Prepare(ctx context.Context) error {
	if out, err := s.Kubectl(ctx, "create", "namespace", "tendril-system"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return s.Apply(ctx, apiServer)
}

func (s *Stage) configure(ctx context.Context, config string) error {
	if config != "" {
		return s.Apply(ctx, config)
	}
	return s.ApplyFiles(ctx, "deployment/examples/pools.yaml")
}

// Ready waits until the daemon is ready on every node and the nodes offer their
// VFs.
func (s *Stage) Ready(ctx context.Context) error {
	if err := s.Await(ctx, "the daemon to be ready on every node", s.daemonReady); err != nil {
		return err
	}
	s.say("tendrild is ready on every node")
	return s.Await(ctx, "the nodes to offer their VFs", s.vfsOffered)
}

// ApplyFiles applies files below the repository.
func (s *Stage) ApplyFiles(ctx context.Context, names ...string) error {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(s.root, name))
		if err != nil {
			return err
		}
		if err := s.Apply(ctx, string(data)); err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return nil
}

// Await polls until done says yes. It ends with ctx or after three minutes and
// then says what was seen last.
func (s *Stage) Await(ctx context.Context, what string, done func(context.Context) (seen string, ok bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var last string
	for {
		seen, ok, err := done(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			seen = err.Error()
		}
		if seen != "" {
			last = seen
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last seen: %s", what, ctx.Err(), last)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (s *Stage) daemonReady(ctx context.Context) (string, bool, error) {
	out, err := s.Kubectl(ctx, "-n", "tendril-system", "get", "daemonset", "tendrild",
		"-o", "jsonpath={.status.desiredNumberScheduled} {.status.updatedNumberScheduled} {.status.numberReady}")
	return out, out == fmt.Sprintf("%[1]d %[1]d %[1]d", s.Nodes()), err
}

func (s *Stage) vfsOffered(ctx context.Context) (string, bool, error) {
	out, err := s.Kubectl(ctx, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.allocatable.tendril\.dev/sriov0} {end}`)
	return out, strings.Count(out, "=7 ") == s.Nodes(), err
}

// PodReady waits until the named pods of the default namespace are Ready.
func (s *Stage) PodReady(ctx context.Context, names ...string) error {
	return s.Await(ctx, "pods "+strings.Join(names, ", ")+" to be Ready", func(ctx context.Context) (string, bool, error) {
		for _, n := range names {
			out, err := s.Kubectl(ctx, "get", "pod", n, "-o", `jsonpath={.status.phase} {.status.conditions[?(@.type=="Ready")].status}`)
			if out != "Running True" {
				return n + ": " + out, false, err
			}
		}
		return "", true, nil
	})
}

// PodGone deletes the named pods of the default namespace and waits until the
// API server has them no more.
func (s *Stage) PodGone(ctx context.Context, names ...string) error {
	if out, err := s.Kubectl(ctx, append([]string{"delete", "pod", "--wait=false", "--ignore-not-found"}, names...)...); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return s.Await(ctx, "pods "+strings.Join(names, ", ")+" to be gone", func(ctx context.Context) (string, bool, error) {
		out, err := s.Kubectl(ctx, append([]string{"get", "pod", "--ignore-not-found", "-o", "name"}, names...)...)
		return out, err == nil && strings.TrimSpace(out) == "", err
	})
}

// Exec runs a command in a pod of the default namespace.
func (s *Stage) Exec(ctx context.Context, pod string, command ...string) (string, error) {
	return s.Kubectl(ctx, append([]string{"exec", pod, "--"}, command...)...)
}

// Ping sends three echo requests from a pod, until they are answered or the
// time for one is up: a wire and a neighbour table may need a moment.
func (s *Stage) Ping(ctx context.Context, pod, ifName, addr string) error {
	return s.Await(ctx, fmt.Sprintf("%s to answer %s over %s", addr, pod, ifName), func(ctx context.Context) (string, bool, error) {
		out, err := s.Exec(ctx, pod, "ping", "-c", "3", "-W", "1", "-I", ifName, addr)
		return out, err == nil && strings.Contains(out, "3 packets received"), err
	})
}

// Script runs a script on node n and returns what it printed.
func (s *Stage) Script(ctx context.Context, n int, script string) (string, error) {
	var out strings.Builder
	code, err := s.Node(n).Run(ctx, script, &out)
	if err == nil && code != 0 {
		err = fmt.Errorf("node %d: script ended with code %d: %s", n, code, out.String())
	}
	return out.String(), err
}

// explain collects what a person would look at first.
func (s *Stage) explain() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"-n", "tendril-system", "logs", "-l", "app.kubernetes.io/name=tendrild", "--tail=40", "--prefix"},
	} {
		out, err := s.Kubectl(ctx, args...)
		fmt.Fprintf(&b, "\n$ kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
	}
	return errors.New(b.String())
}

// Explain is explain as text, for tests that fail.
func (s *Stage) Explain() string { return s.explain().Error() }
