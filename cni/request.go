package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// Runner runs a CNI plugin executable in the context of the container runtime
// that made the call: its mount namespace and its control group. plugin is the
// type's name, found in the runtime's CNI_PATH; env is the whole environment.
// The answer is what the plugin wrote to its standard output; the error is a
// *NoPlugin if there is none of that name.
type Runner func(ctx context.Context, plugin string, stdin []byte, env []string) ([]byte, error)

// Request is one CNI call.
type Request struct {
	ContainerID string
	IfName      string
	// NetnsPath is CNI_NETNS as received. Netns is that namespace, opened by the
	// caller; nil when it could not be opened (DEL after the sandbox is gone).
	NetnsPath string
	Netns     *os.File
	// Args are the pairs of CNI_ARGS.
	Args map[string]string
	// Path is CNI_PATH as received.
	Path string
	// Config is the configuration from standard input.
	Config []byte
	// Run runs foreign plugins. It is nil where no runtime waits, as in the
	// recovery at start.
	Run Runner

	// flight is the record of this call, nil for none.
	flight Flight
}

// Keys of CNI_ARGS that Kubernetes runtimes set.
const (
	argPodNamespace = "K8S_POD_NAMESPACE"
	argPodName      = "K8S_POD_NAME"
	argPodUID       = "K8S_POD_UID"
)

func (r Request) pod() PodRef {
	return PodRef{Namespace: r.Args[argPodNamespace], Name: r.Args[argPodName], UID: r.Args[argPodUID]}
}

// runtimeConfig returns the capability arguments of the runtime's own call.
func runtimeConfig(r Request) (map[string]json.RawMessage, error) {
	var conf struct {
		RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig"`
	}
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return nil, fmt.Errorf("decode configuration from the runtime: %w", err)
	}
	return conf.RuntimeConfig, nil
}
