package deviceplugin

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// kubelet is the kubelet's root directory as this package uses it.
type kubelet struct{ root string }

// registry is where the plugin watcher looks for sockets.
func (k kubelet) registry() string { return filepath.Join(k.root, "plugins_registry") }

// plugins is where sockets lie in the older way of registration.
func (k kubelet) plugins() string { return filepath.Join(k.root, "device-plugins") }

// server is the kubelet's own socket for that older way.
func (k kubelet) server() string { return filepath.Join(k.plugins(), "kubelet.sock") }

// place returns the directory to put sockets in now, and whether the plugin
// watcher is to find them there or they have to be registered. It returns ""
// while there is none of them because the kubelet never ran.
func (k kubelet) place() (dir string, watched bool) {
	switch {
	case isDir(k.registry()):
		return k.registry(), true
	case isDir(k.plugins()):
		return k.plugins(), false
	}
	return "", false
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// identity tells one incarnation of a file from the next; the zero identity is
// no file. The time is part of it because inode numbers are used again; it is
// the modification time, which a later chmod or relabel leaves alone.
type identity struct {
	device, inode uint64
	made          int64 // nanoseconds since the epoch
}

func identify(path string) identity {
	fi, err := os.Lstat(path)
	if err != nil {
		return identity{}
	}
	device, inode := inodeOf(fi)
	return identity{device: device, inode: inode, made: fi.ModTime().UnixNano()}
}

// sweep is how often the directories are looked at without a sign from the
// kernel: a safeguard where inotify has no watches left or a directory came
// back under the same name.
const sweep = 5 * time.Second

// watch calls changed after anything happened in the kubelet's directories, and
// at every sweep, until ctx ends.
func (k kubelet) watch(ctx context.Context, log *slog.Logger, changed func()) {
	// Without a watcher the sweeps remain; its channels are nil and silent.
	w := &fsnotify.Watcher{}
	if real, err := fsnotify.NewWatcher(); err != nil {
		log.Warn("kubelet directories are only looked at now and then", "every", sweep, "error", err)
	} else {
		w = real
		defer w.Close()
	}
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		if w.Events != nil {
			// Adding a directory again changes nothing; one that is not there
			// yet is added when its parent tells of it.
			for _, dir := range []string{k.root, k.registry(), k.plugins()} {
				_ = w.Add(dir)
			}
		}
		// Only now, so that nothing can happen between looking and watching.
		changed()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case err := <-w.Errors:
			log.Debug("kubelet directory watch", "error", err)
		case <-w.Events:
		}
	}
}
