package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const whereaboutsModule = "github.com/k8snetworkplumbingwg/whereabouts@v0.9.4"

// whereabouts is the plugin with what it needs to run.
type whereabouts struct{ dir, program, kubeconfig string }

// buildWhereabouts downloads the module, builds the plugin into dir, and returns
// it with the files of its custom resource definitions.
func buildWhereabouts(ctx context.Context, dir string) (*whereabouts, []string, error) {
	text, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", whereaboutsModule).Output()
	if err != nil {
		return nil, nil, fmt.Errorf("download %s: %w", whereaboutsModule, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(text, &module); err != nil {
		return nil, nil, fmt.Errorf("download %s: %w", whereaboutsModule, err)
	}
	w := &whereabouts{dir: dir, program: filepath.Join(dir, "whereabouts")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", w.program, "./cmd")
	build.Dir, build.Env = module.Dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build whereabouts: %w: %s", err, out)
	}
	crds, err := filepath.Glob(filepath.Join(module.Dir, "doc", "crds", "whereabouts.cni.cncf.io_*.yaml"))
	if err == nil && len(crds) != 3 {
		err = fmt.Errorf("find the definitions of whereabouts: %d of 3", len(crds))
	}
	return w, crds, err
}

// configure writes the flat file, without which it does not run.
func (w *whereabouts) configure(kubeconfig string) error {
	w.kubeconfig = kubeconfig
	return os.WriteFile(filepath.Join(w.dir, "whereabouts.conf"), []byte(`{"kubernetes":{"kubeconfig":"`+kubeconfig+`"}}`), 0o600)
}

// run executes the plugin as a runtime does.
func (w *whereabouts) run(ctx context.Context, command, ranges, id string) ([]netip.Addr, error) {
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench","type":"macvlan","ipam":{"type":"whereabouts","configuration_path":%q,"kubernetes":{"kubeconfig":%q},"log_level":"error",%s}}`,
		filepath.Join(w.dir, "whereabouts.conf"), w.kubeconfig, ranges)
	cmd := exec.CommandContext(ctx, w.program)
	cmd.Stdin = strings.NewReader(conf)
	cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=true", "CNI_IFNAME=net1", "CNI_PATH=" + w.dir,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=" + id + ";K8S_POD_NAMESPACE=bench"}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s %s", err, exit.Stderr, out)
		}
		return nil, fmt.Errorf("run whereabouts %s: %w", command, err)
	}
	if command != "ADD" {
		return nil, nil
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("decode whereabouts' answer %q: %w", out, err)
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	return addrs, nil
}
