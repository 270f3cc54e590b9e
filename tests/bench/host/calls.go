package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
)

// CNIVersion is the version of every configuration here.
const CNIVersion = "1.0.0"

// Caller makes CNI calls to one plugin, as a container runtime does.
type Caller struct {
	Plugin string // the executable
	Conf   []byte // its standard input, but for what DEL adds
	Path   string // CNI_PATH
	IfName string
}

// Call executes the plugin by libcni's own code and times it from before the
// fork to the last byte of the answer.
func (c Caller) Call(ctx context.Context, command string, p Pod, id, args string, conf []byte) (out []byte, took time.Duration, err error) {
	env := append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS="+p.Path, "CNI_IFNAME="+c.IfName,
		"CNI_ARGS="+args, "CNI_PATH="+c.Path)
	start := time.Now()
	out, err = (&invoke.RawExec{}).ExecPlugin(ctx, c.Plugin, conf, env)
	took = time.Since(start)
	if err != nil {
		return nil, took, fmt.Errorf("%s %s: %w", filepath.Base(c.Plugin), command, err)
	}
	return out, took, nil
}

// WithResult is the configuration for DEL, which has what ADD returned
// (CNI specification, section 4).
func WithResult(conf, result []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(conf, &all); err != nil {
		return nil, fmt.Errorf("add result to configuration: %w", err)
	}
	all["prevResult"] = result
	return json.Marshal(all)
}
