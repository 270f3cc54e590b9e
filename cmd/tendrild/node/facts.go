package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/webhook/report"
)

const (
	// factsPeriod is how often the node is looked at, factsReread after how many
	// looks the Node object is: it may have been made anew, or edited.
	factsPeriod = 30 * time.Second
	factsReread = 20
)

// facts keeps the annotations of the Node object by which admission and lint know
// what this node has (package report).
type facts struct {
	node   string
	client metadata.Getter
	look   func() (report.Node, error)
	log    *slog.Logger

	told  map[string]string // what the Node object had when it was last seen
	looks int               // since then
}

func newFacts(config *rest.Config, node string, look func() (report.Node, error), log *slog.Logger) (*facts, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client for the node: %w", err)
	}
	return &facts{node: node, client: client.Resource(corev1.SchemeGroupVersion.WithResource("nodes")), look: look, log: log}, nil
}

// errTooEarly says that the daemon itself does not know the node yet.
var errTooEarly = errors.New("the device pools are not filled yet")

// run tells what is new until ctx ends, and returns nil then. What fails is tried
// again with the next look.
func (f *facts) run(ctx context.Context, period time.Duration) error {
	for {
		pause, err := period, f.step(ctx)
		switch {
		case errors.Is(err, errTooEarly):
			pause = min(pause, time.Second)
		case err != nil && ctx.Err() == nil:
			f.log.Warn("annotations of the node not all up to date", "node", f.node, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// step looks once, and writes what changed in one PATCH. What cannot be looked at
// stays as it was told.
func (f *facts) step(ctx context.Context) error {
	now, trouble := f.look()
	if errors.Is(trouble, errTooEarly) {
		return trouble
	}
	want := now.Annotations()
	if f.looks++; f.told != nil && f.looks < factsReread && len(missing(f.told, want)) == 0 {
		return trouble
	}
	object, err := f.client.Get(ctx, f.node, metav1.GetOptions{ResourceVersion: "0"}) // the API server's cache will do
	if err != nil {
		return errors.Join(trouble, fmt.Errorf("read annotations of node %s: %w", f.node, err))
	}
	f.told, f.looks = object.Annotations, 0
	if changed := missing(f.told, want); len(changed) > 0 {
		return errors.Join(trouble, f.write(ctx, changed))
	}
	return trouble
}

// missing returns what of want is not in have.
func missing(have, want map[string]string) map[string]string {
	out := map[string]string{}
	for key, v := range want {
		if before, has := have[key]; !has || before != v {
			out[key] = v
		}
	}
	return out
}

func (f *facts) write(ctx context.Context, changed map[string]string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": changed}})
	if err != nil {
		return err
	}
	object, err := f.client.Patch(ctx, f.node, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "tendrild"})
	if err != nil {
		return fmt.Errorf("write annotations of node %s: %w", f.node, err)
	}
	f.told = object.Annotations
	f.log.Info("annotations of the node changed", "node", f.node, "annotations", changed)
	return nil
}

// facts looks at this node.
func (d *daemon) facts() (report.Node, error) {
	pools := d.offer.plugin.Pools()
	if pools == nil {
		return report.Node{}, errTooEarly
	}
	plugins, err := d.plugins()
	links, linkErr := d.links()
	return report.Node{Plugins: plugins, Links: links, Userspace: userspace(pools), Given: given(d.networks.now())}, errors.Join(err, linkErr)
}

// given counts the networks that pods get without asking; the first delegate is
// the default network.
func given(n netconf.Node) *report.Given {
	return &report.Given{Always: max(len(n.Delegates)-1, 0), Default: len(n.DefaultNetworks), System: n.SystemNamespaces}
}

// userspace returns the resources with a device on a userspace driver.
func userspace(pools []deviceplugin.Pool) []string {
	out := []string{}
	for _, p := range pools {
		for _, d := range p.Devices {
			if vf.UserspaceDriver(d.Driver) {
				out = append(out, p.Name())
				break
			}
		}
	}
	return out
}

// kinds are the types that may be served in process.
var kinds = []string{"sriov", "macvlan", "ipvlan", "vlan", "bridge", "host-device", "bond", "tuning", "sbr", "vrf"}

// plugins returns the types that a network may have here: those that are served in
// process, alone or behind a macvlan, and the executables.
func (d *daemon) plugins() ([]string, error) {
	out := []string{}
	for _, kind := range kinds {
		alone := netconf.Network{Plugins: []netconf.Plugin{{Type: kind}}}
		behind := netconf.Network{Plugins: []netconf.Plugin{{Type: "macvlan"}, {Type: kind}}}
		if alone.Native() || behind.Native() {
			out = append(out, kind)
		}
	}
	for _, dir := range append(d.pluginDirs(), d.CNIBinDir) {
		names, err := programs(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list plugins: %w", err)
		}
		out = append(out, names...)
	}
	return slices.DeleteFunc(out, func(name string) bool { return name == install.ShimName }), nil
}

// programs returns the programs in a directory, which plugins may be.
func programs(dir string) ([]string, error) {
	out := []string{}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // of what a symbolic link leads to
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// links returns the links of the host that do not come and go with pods.
func (d *daemon) links() ([]string, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return lasting(all, func(name string) bool {
		_, err := os.Stat(filepath.Join(d.SysfsRoot, "class", "net", name, "device", "physfn"))
		return err == nil
	}), nil
}

func lasting(all []netlink.Link, isVF func(name string) bool) []string {
	out := []string{}
	for _, l := range all {
		a := l.Attrs()
		if l.Type() == "veth" || a.Name == "lo" || isVF(a.Name) {
			continue
		}
		out = append(append(out, a.Name), a.AltNames...)
	}
	return out
}
