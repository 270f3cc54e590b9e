package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
)

const (
	cniVersion = "1.0.0"
	ifName     = bareName
	// The two sides have a subnet each: they share a wire.
	oursSubnet      = "10.61.0.0/16"
	referenceSubnet = "10.62.0.0/16"
)

// macvlanConf is the network of both sides, but for the subnet. The reference
// keeps its addresses on the tmpfs, where it is fastest.
func macvlanConf(subnet string) map[string]any {
	return map[string]any{
		"type": "macvlan", "master": master, "mode": "bridge",
		"ipam": map[string]any{
			"type": "host-local", "dataDir": "/run/host-local",
			"ranges": [][]map[string]string{{{"subnet": subnet}}},
			"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
		},
	}
}

// caller makes CNI calls to one plugin, as a container runtime does.
type caller struct {
	plugin string
	conf   []byte
	path   string // CNI_PATH
}

// call executes the plugin by libcni's own code and times it from before the
// fork to the last byte of the answer.
func (c caller) call(ctx context.Context, command string, p pod, id, args string, conf []byte) (out []byte, took time.Duration, err error) {
	env := append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS="+p.path, "CNI_IFNAME="+ifName,
		"CNI_ARGS="+args, "CNI_PATH="+c.path)
	start := time.Now()
	out, err = (&invoke.RawExec{}).ExecPlugin(ctx, c.plugin, conf, env)
	took = time.Since(start)
	if err != nil {
		return nil, took, fmt.Errorf("%s %s: %w", filepath.Base(c.plugin), command, err)
	}
	return out, took, nil
}

// named adds what libcni adds to a plugin's configuration.
func named(conf map[string]any) map[string]any {
	conf["name"], conf["cniVersion"] = "reference", cniVersion
	return conf
}

// withResult is the configuration for DEL, which has what ADD returned
// (CNI specification, section 4).
func withResult(conf, result []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(conf, &all); err != nil {
		return nil, fmt.Errorf("add result to configuration: %w", err)
	}
	all["prevResult"] = result
	return json.Marshal(all)
}
