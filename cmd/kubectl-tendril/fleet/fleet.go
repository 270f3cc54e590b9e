package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/inspect"
)

// The labels by which the processes are found (deployment/manifests).
const (
	DaemonLabel     = "app.kubernetes.io/name=tendrild"
	ControllerLabel = "app.kubernetes.io/name=tendril-controller"
)

// ErrNoNode says that the cluster has no node of the name that was given.
var ErrNoNode = errors.New("there is none of that name")

// Asker asks the daemon in a pod for a path of package inspect.
type Asker interface {
	Ask(ctx context.Context, daemon *corev1.Pod, path string) ([]byte, error)
}

// Fleet is one cluster.
type Fleet struct {
	Config *rest.Config
	Client kubernetes.Interface
	// Objects reads custom resources.
	Objects dynamic.Interface
	// System is the namespace of the daemons; empty finds them in any.
	System string
	asker  Asker

	// mu guards gathered.
	mu sync.Mutex
	// gathered are answers that Gather got, by the daemon's uid and the path.
	gathered map[string]inspect.One
}

// New returns the cluster that config reaches. asker is nil for exec.
func New(config *rest.Config, system string, asker Asker) (*Fleet, error) {
	config = rest.CopyConfig(config)
	if config.QPS == 0 {
		// A person waits; the lists are few and the API server guards itself.
		config.QPS = -1
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of custom resources: %w", err)
	}
	if asker == nil {
		asker = execer{config: config, client: client}
	}
	return &Fleet{Config: config, Client: client, Objects: objects, System: system, asker: asker, gathered: map[string]inspect.One{}}, nil
}

// Daemons returns the daemon's pod of each node, by the node's name: one that is
// ready before one that is not.
func (f *Fleet) Daemons(ctx context.Context) (map[string]*corev1.Pod, error) {
	pods, err := f.Client.CoreV1().Pods(f.System).List(ctx, metav1.ListOptions{LabelSelector: DaemonLabel})
	if err != nil {
		return nil, fmt.Errorf("list the daemons' pods: %w", err)
	}
	out := map[string]*corev1.Pod{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if have := out[p.Spec.NodeName]; p.Spec.NodeName != "" && (have == nil || !Ready(have) && Ready(p)) {
			out[p.Spec.NodeName] = p
		}
	}
	return out, nil
}

// Controllers returns the controller's pods.
func (f *Fleet) Controllers(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := f.Client.CoreV1().Pods(f.System).List(ctx, metav1.ListOptions{LabelSelector: ControllerLabel})
	if err != nil {
		return nil, fmt.Errorf("list the controller's pods: %w", err)
	}
	return pods.Items, nil
}

// Nodes returns all nodes, or the named ones, by name.
func (f *Fleet) Nodes(ctx context.Context, names ...string) ([]corev1.Node, error) {
	list, err := f.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	out := slices.DeleteFunc(list.Items, func(n corev1.Node) bool { return len(names) > 0 && !slices.Contains(names, n.Name) })
	for _, name := range names {
		if !slices.ContainsFunc(out, func(n corev1.Node) bool { return n.Name == name }) {
			return nil, fmt.Errorf("node %s: %w", name, ErrNoNode)
		}
	}
	slices.SortFunc(out, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Ready says whether a pod is ready.
func Ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Running says whether a command can be run in a daemon's pod.
func Running(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil })
}

// Trouble says in a few words why a pod is not ready, "" if it is.
func Trouble(p *corev1.Pod) string {
	if Ready(p) {
		return ""
	}
	if p.DeletionTimestamp != nil {
		return "is being deleted"
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			text := w.Reason
			if t := c.LastTerminationState.Terminated; t != nil {
				text += fmt.Sprintf(", ended with code %d before (%s)", t.ExitCode, t.Reason)
			}
			return text
		}
		if t := c.State.Terminated; t != nil {
			return fmt.Sprintf("ended with code %d (%s)", t.ExitCode, t.Reason)
		}
	}
	if p.Status.Phase != corev1.PodRunning {
		return string(p.Status.Phase)
	}
	return "runs and is not ready"
}

// Ask asks one daemon and decodes its answer.
func Ask[T any](ctx context.Context, f *Fleet, daemon *corev1.Pod, path string) (T, error) {
	var out T
	text, err := f.Raw(ctx, daemon, path)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("decode the answer of %s to %s: %w", daemon.Spec.NodeName, path, err)
	}
	return out, nil
}

// Raw is Ask without decoding.
func (f *Fleet) Raw(ctx context.Context, daemon *corev1.Pod, path string) ([]byte, error) {
	switch {
	case daemon == nil:
		return nil, fmt.Errorf("ask for %s: no daemon runs on the node", path)
	case !Running(daemon):
		return nil, fmt.Errorf("ask for %s: the daemon %s does not run: %s", path, daemon.Name, Trouble(daemon))
	}
	f.mu.Lock()
	known, ok := f.gathered[key(daemon, path)]
	f.mu.Unlock()
	text, err := []byte(known.Answer), error(nil)
	switch {
	case ok && known.Error != "":
		err = errors.New(known.Error)
	case !ok:
		text, err = f.asker.Ask(ctx, daemon, path)
	}
	if err != nil {
		return nil, unasked{daemon.Spec.NodeName, path, err}
	}
	return text, nil
}

func key(daemon *corev1.Pod, path string) string { return string(daemon.UID) + " " + path }

// unasked is an Asker's error with who was asked for what.
type unasked struct {
	node, path string
	err        error
}

func (u unasked) Error() string {
	return fmt.Sprintf("ask the daemon on %s for %s: %v", u.node, u.path, u.err)
}

func (u unasked) Unwrap() error { return u.err }

// cause takes who was asked for what off again: of several things asked for at once,
// each says that for itself.
func cause(err error) error {
	var u unasked
	if errors.As(err, &u) {
		return u.err
	}
	return err
}

// Gather asks the daemons of nodes for several paths in one go, so that what is
// asked of them afterwards costs no exec of its own. Daemons of an older release,
// which answer one path at a time, are left to that.
func (f *Fleet) Gather(ctx context.Context, daemons map[string]*corev1.Pod, nodes []string, paths ...string) {
	all := AskAll[map[string]inspect.One](ctx, f, daemons, nodes, inspect.PathSeveral+"?"+url.Values{"path": paths}.Encode())
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range all {
		daemon := daemons[a.Node]
		if daemon == nil || !Running(daemon) || a.Err != nil && strings.Contains(a.Err.Error(), "is not allowed") {
			continue
		}
		for _, path := range paths {
			one, ok := a.Value[path]
			if a.Err != nil {
				one, ok = inspect.One{Error: cause(a.Err).Error()}, true
			}
			if ok {
				f.gathered[key(daemon, path)] = one
			}
		}
	}
}
