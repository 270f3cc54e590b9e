package delegate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// Chains runs foreign networks. It implements cni.Delegate. Use New.
type Chains struct {
	cacheDir string
}

var _ cni.Delegate = (*Chains)(nil)

// New returns a Chains whose libcni keeps its results under cacheDir, in the
// daemon's run directory: they are of no use after a reboot.
func New(cacheDir string) *Chains { return &Chains{cacheDir: cacheDir} }

// Add runs the whole chain of a and returns its result in CNI version 1.1.0. An
// error that a plugin reported is in the chain of errors as *types.Error. After
// an error the caller runs Del, as the specification asks.
func (c *Chains) Add(ctx context.Context, run cni.Runner, a cni.Attachment) (json.RawMessage, error) {
	var out json.RawMessage
	list, err := c.list(a)
	if err == nil {
		var res types.Result
		if res, err = c.libcni(run, list).AddNetworkList(ctx, list, runtimeConf(a)); err == nil {
			out, err = encode(res)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("add network %q: %w", a.Config.Name, err)
	}
	return out, nil
}

// Del undoes Add, plugin by plugin from the last to the first, and stops at the
// first error, since a plugin may rely on those before it. result is what Add
// returned; nil when that is not known, and then libcni's cached one, if any, is
// what the plugins get. A network namespace that is gone is an empty
// a.Netns.Path.
func (c *Chains) Del(ctx context.Context, run cni.Runner, a cni.Attachment, result json.RawMessage) error {
	list, err := c.prepared(a, result)
	if err == nil {
		err = c.libcni(run, list).DelNetworkList(ctx, list, runtimeConf(a))
	}
	if err != nil {
		return fmt.Errorf("delete network %q: %w", a.Config.Name, err)
	}
	return nil
}

// Check has each plugin of the chain check what result says. A network of a
// version before 0.4.0 has no CHECK and passes, so that it does not spoil the
// CHECK of a pod whose other networks have it; so does one with disableCheck.
func (c *Chains) Check(ctx context.Context, run cni.Runner, a cni.Attachment, result json.RawMessage) error {
	if has, err := version.GreaterThanOrEqualTo(a.Config.CNIVersion, "0.4.0"); err == nil && !has {
		return nil
	}
	list, err := c.prepared(a, result)
	if err == nil {
		err = c.libcni(run, list).CheckNetworkList(ctx, list, runtimeConf(a))
	}
	if err != nil {
		return fmt.Errorf("check network %q: %w", a.Config.Name, err)
	}
	return nil
}

// Status asks each plugin of n whether it could serve an ADD. The first error
// counts. A network of a version before 1.1.0 has no STATUS and passes.
func (c *Chains) Status(ctx context.Context, run cni.Runner, n netconf.Network) error {
	list, err := listOf(n)
	if err == nil {
		err = c.libcni(run, list).GetStatusNetworkList(ctx, list)
	}
	if err != nil {
		return fmt.Errorf("status of network %q: %w", n.Name, err)
	}
	return nil
}

// GC tells each plugin of n which attachments are valid, all of them even after
// an error. It detaches nothing itself: what is stale and known is detached by
// the caller with Del before. A network of a version before 1.1.0, or with
// disableGC, has no GC and passes.
func (c *Chains) GC(ctx context.Context, run cni.Runner, n netconf.Network, valid []types.GCAttachment) error {
	list, err := listOf(n)
	if err == nil {
		// libcni would first delete whatever its cache has beyond valid, past
		// the caller's journal. An empty cache keeps it from that.
		forward := libcni.NewCNIConfigWithCacheDir(nil, filepath.Join(c.cacheDir, "none"), newExecutor(run, list))
		err = forward.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid})
	}
	if err != nil {
		return fmt.Errorf("gc of network %q: %w", n.Name, err)
	}
	return nil
}

func (c *Chains) libcni(run cni.Runner, list *libcni.NetworkConfigList) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(nil, c.cacheDir, newExecutor(run, list))
}

// list makes libcni's form of a's network, after checking the names that libcni
// makes a file name of.
func (c *Chains) list(a cni.Attachment) (*libcni.NetworkConfigList, error) {
	if err := checkNames(a); err != nil {
		return nil, err
	}
	return listOf(a.Config)
}

// prepared is list, with result put where libcni looks for it.
func (c *Chains) prepared(a cni.Attachment, result json.RawMessage) (*libcni.NetworkConfigList, error) {
	list, err := c.list(a)
	if err != nil || len(result) == 0 {
		return list, err
	}
	return list, c.remember(a, list, result)
}

// remember writes result as libcni's cache has it (libcni/api.go, cachedInfo).
func (c *Chains) remember(a cni.Attachment, list *libcni.NetworkConfigList, result json.RawMessage) error {
	data, err := json.Marshal(struct {
		Kind        string          `json:"kind"`
		ContainerID string          `json:"containerId"`
		Config      []byte          `json:"config"`
		IfName      string          `json:"ifName"`
		NetworkName string          `json:"networkName"`
		Netns       string          `json:"netns,omitempty"`
		CNIArgs     [][2]string     `json:"cniArgs,omitempty"`
		Result      json.RawMessage `json:"result"`
	}{libcni.CNICacheV1, a.ContainerID, list.Bytes, a.IfName, list.Name, a.Netns.Path, runtimeConf(a).Args, result})
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	path := filepath.Join(c.cacheDir, "results", fmt.Sprintf("%s-%s-%s", list.Name, a.ContainerID, a.IfName))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// encode returns res in the version in which the journal keeps results.
func encode(res types.Result) (json.RawMessage, error) {
	res, err := res.GetAsVersion(current.ImplementedSpecVersion)
	if err != nil {
		return nil, fmt.Errorf("convert result: %w", err)
	}
	return json.Marshal(res)
}
