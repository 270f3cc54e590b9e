package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// reasonNetworksInvalid is the reason of an event about the node.
const reasonNetworksInvalid = "NetworksConfigInvalid"

// networksFile is the node's say in networks (--networks-config), as it is now: a
// look at the file's metadata precedes each use, so that a change of its ConfigMap
// holds from the next call on. What is not good is logged and told once, and what
// was good before stays in force.
//
// Its methods may be called concurrently.
type networksFile struct {
	path string
	log  *slog.Logger
	// tell says to people why a change is not in force.
	tell func(reason, message string)

	mu    sync.Mutex // guards all below
	said  netconf.Node
	stamp stamp
	bad   string // why the newest version is not in force; "" when it is
}

// stamp tells one version of a file from another: a mounted ConfigMap has each in
// a file of its own.
type stamp struct {
	exists  bool
	changed time.Time
	size    int64
	file    os.FileInfo
}

func (s stamp) same(o stamp) bool {
	return s.exists == o.exists && s.size == o.size && s.changed.Equal(o.changed) && (!s.exists || os.SameFile(s.file, o.file))
}

// openNetworks reads the file for the first time, when it has to be good; no path
// means the defaults. The manifests name a file that comes with a ConfigMap which
// need not be there.
func openNetworks(path string, log *slog.Logger, tell func(reason, message string)) (*networksFile, error) {
	f := &networksFile{path: path, log: log, tell: tell}
	if path == "" {
		return f, nil
	}
	var err error
	if f.stamp, err = f.look(); err != nil {
		return nil, fmt.Errorf("read networks (--networks-config): %w", err)
	}
	if f.said, err = f.read(f.stamp); err != nil {
		return nil, err
	}
	return f, nil
}

// now is what holds.
func (f *networksFile) now() netconf.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.path == "" {
		return f.said
	}
	seen, err := f.look()
	switch {
	case err == nil && seen.same(f.stamp):
		return f.said
	case err == nil && !seen.exists:
		// Not the defaults: they may allow what the file did not.
		err = fmt.Errorf("read networks (--networks-config): %s is gone", f.path)
	case err == nil:
		var said netconf.Node
		if said, err = f.read(seen); err == nil {
			f.said, f.bad = said, ""
		}
	}
	f.stamp = seen
	if err != nil && err.Error() != f.bad {
		f.bad = err.Error()
		f.log.Warn("networks are those of the last good configuration", "file", f.path, "error", err)
		f.tell(reasonNetworksInvalid, "networks are those of the last good configuration: "+f.bad)
	}
	return f.said
}

func (f *networksFile) look() (stamp, error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stamp{exists: true, changed: info.ModTime(), size: info.Size(), file: info}, nil
}

func (f *networksFile) read(s stamp) (netconf.Node, error) {
	if !s.exists {
		f.log.Info("no configuration of networks: the defaults hold", "file", f.path)
		return netconf.Node{}, nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return netconf.Node{}, fmt.Errorf("read networks (--networks-config): %w", err)
	}
	said, err := netconf.ParseNode(f.path, data)
	if err != nil {
		return netconf.Node{}, err
	}
	f.log.Info("configuration of networks is in force", "file", f.path)
	if len(said.Idle) > 0 {
		f.log.Info("keys of Multus without a meaning here", "file", f.path, "keys", said.Idle)
	}
	return said, nil
}
