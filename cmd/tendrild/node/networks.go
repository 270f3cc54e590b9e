package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam/hostlocal"
)

// multusConfDir is where Multus has the configurations of networks that are only
// named.
const multusConfDir = "/etc/cni/multus/net.d"

// defaultNetwork reads the runtime's configuration directory at each call: it
// is small, and what it says now is what holds.
func (d *daemon) defaultNetwork() (netconf.Network, error) {
	said := d.networks.now()
	if len(said.Delegates) > 0 {
		return said.Delegates[0], nil
	}
	dir := said.DiscoverDir
	if dir == "" {
		dir = d.CNIConfDir
	}
	if file := said.MasterFile; file != "" {
		return delegate.Load(filepath.Join(dir, file), install.Own)
	}
	network, _, err := delegate.Discover(dir, install.Own)
	return network, err
}

// addressFiles implements cni.Options.Files.
func (d *daemon) addressFiles(dataDir, network string) (cni.AddressFiles, error) {
	files, err := hostlocal.Dirs(d.HostLocalDirs).Open(dataDir, network)
	if err != nil {
		return nil, err
	}
	return files, nil
}

// find implements cni.Options.Find.
func (d *daemon) find(name string) (netconf.Network, error) {
	if strings.Contains(name, "/") {
		return delegate.Load(name, install.Own)
	}
	dirs := []string{multusConfDir, d.CNIConfDir}
	if dir := d.networks.now().ConfDir; dir != "" {
		dirs = []string{dir}
	}
	return delegate.Lookup(dirs, name)
}

// pluginDirs are looked at before the runtime's own.
func (d *daemon) pluginDirs() []string {
	if dir := d.networks.now().BinDir; dir != "" {
		return []string{dir}
	}
	return nil
}

// How long an ADD waits for the readiness file, as in Multus, and how often it
// looks.
const (
	readinessLimit = 45 * time.Second
	readinessLook  = 250 * time.Millisecond
)

// awaitReadiness implements cni.Options.Await: the default network says by a file
// that it is there.
func (d *daemon) awaitReadiness(ctx context.Context) error {
	tick := time.NewTicker(readinessLook)
	defer tick.Stop()
	for end := time.Now().Add(readinessLimit); ; {
		err := d.readinessFile()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// readinessFile says that the file is missing, or nil. Code 11: the runtime tries
// again.
func (d *daemon) readinessFile() error {
	file := d.networks.now().ReadinessFile
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return &types.Error{Code: types.ErrTryAgainLater,
			Msg: fmt.Sprintf("the default network is not ready: readinessindicatorfile %s, as the daemon sees it: %v", file, err)}
	}
	return nil
}
