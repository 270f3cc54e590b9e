package delegate

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/tendril-cni/tendril/cni"
)

// errNoRunner: plugins run only in the place of a runtime that waits.
var errNoRunner = errors.New("no container runtime waits for an answer, and plugins run only beside one")

// executor is libcni's way to executables: the shim's.
type executor struct {
	version.PluginDecoder
	run cni.Runner
	// single says that the chain is of one plugin.
	single bool
}

var _ invoke.Exec = (*executor)(nil)

func newExecutor(run cni.Runner, list *libcni.NetworkConfigList) *executor {
	return &executor{run: run, single: len(list.Plugins) == 1}
}

// FindInPath leaves the looking up to the shim, which sees the host's files.
func (e *executor) FindInPath(plugin string, _ []string) (string, error) { return plugin, nil }

// ExecPlugin implements invoke.Exec.
func (e *executor) ExecPlugin(ctx context.Context, plugin string, stdin []byte, environ []string) ([]byte, error) {
	if e.run == nil {
		return nil, errNoRunner
	}
	env := ofCNI(environ)
	out, err := e.run(ctx, plugin, stdin, env)
	if err != nil {
		return nil, err
	}
	if e.single && len(bytes.TrimSpace(out)) == 0 && slices.Contains(env, "CNI_COMMAND=ADD") {
		// A plugin that reports nothing has attached something all the same
		// (NPWG v1.3: a minimal status entry). In a chain it would wipe out what
		// the plugins before it reported, so there libcni's error stands.
		return []byte("{}"), nil
	}
	return out, nil
}

// ofCNI keeps the variables of the CNI call. libcni puts this process's whole
// environment beside them, with the API server's address and more. CNI_PATH goes
// too: the shim knows where it looked.
func ofCNI(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if strings.HasPrefix(kv, "CNI_") && !strings.HasPrefix(kv, "CNI_PATH=") {
			out = append(out, kv)
		}
	}
	slices.Sort(out)
	return out
}
