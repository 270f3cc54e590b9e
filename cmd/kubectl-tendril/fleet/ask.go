package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// askTime bounds one question, so that one sick node does not hold up the others.
const askTime = 30 * time.Second

// atOnce is how many daemons are asked at the same time.
const atOnce = 16

// Answer is what one node's daemon said.
type Answer[T any] struct {
	Node  string
	Value T
	// Err is why there is no value.
	Err error
}

// AskAll asks the daemons of nodes for one path, several at once, and returns the
// answers in the order of nodes.
func AskAll[T any](ctx context.Context, f *Fleet, daemons map[string]*corev1.Pod, nodes []string, path string) []Answer[T] {
	out := make([]Answer[T], len(nodes))
	gate := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			v, err := Ask[T](ctx, f, daemons[node], path)
			out[i] = Answer[T]{node, v, err}
		})
	}
	all.Wait()
	return out
}

// execer asks by exec.
type execer struct {
	config *rest.Config
	client kubernetes.Interface
}

// Ask implements Asker.
func (e execer) Ask(ctx context.Context, daemon *corev1.Pod, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	container, program := whatRuns(daemon)
	r := e.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(daemon.Namespace).Name(daemon.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: append(program, "--inspect="+path), Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := e.executor(r)
	if err != nil {
		return nil, err
	}
	var out, complaints bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &complaints}); err != nil {
		return nil, errors.Join(err, complaint(complaints.String()))
	}
	return out.Bytes(), nil
}

// executor speaks websockets, and SPDY to API servers or proxies that do not.
func (e execer) executor(r *rest.Request) (remotecommand.Executor, error) {
	web, err := remotecommand.NewWebSocketExecutor(e.config, http.MethodGet, r.URL().String())
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.config, http.MethodPost, r.URL())
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	return remotecommand.NewFallbackExecutor(web, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// whatRuns returns the daemon's container and the command that asks it: the same
// program, told of the same run directory.
func whatRuns(daemon *corev1.Pod) (container string, program []string) {
	program = []string{"/usr/local/bin/tendrild"}
	for _, c := range daemon.Spec.Containers {
		if c.Name != "tendrild" && len(daemon.Spec.Containers) > 1 {
			continue
		}
		container = c.Name
		if len(c.Command) > 0 {
			program = []string{c.Command[0]}
		}
		for _, arg := range c.Args {
			if strings.HasPrefix(arg, "--run-dir=") {
				program = append(program, arg)
			}
		}
	}
	return container, program
}

func complaint(text string) error {
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return errors.New(text)
}
