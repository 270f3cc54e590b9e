package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Guard keeps the configuration in place and right for as long as it runs:
// another agent that renames, truncates, changes or deletes it (an exclusive CNI
// does, and so does a cleaning script) would have pods start with their default
// network alone. Fields are set before Run.
type Guard struct {
	// Dir is the runtime's configuration directory.
	Dir string
	// Conf is what the file has to say.
	Conf Settings
	// Restored is called after the file was put back, with what had become of it;
	// Shadowed when the set of files changes that the runtime would take before
	// it. Both may be nil.
	Restored func(what string)
	Shadowed func(files []string)
	Log      *slog.Logger

	shadows []string
}

// guardPeriod is how often the guard looks without being told: notifications may
// be lost (a full queue, a directory that was replaced).
const guardPeriod = 10 * time.Second

// guardPause follows a restoration: against an agent that insists, the file is
// put back this often and not in a spin.
const guardPause = 50 * time.Millisecond

// Run guards until ctx ends and returns nil then. The error is that of a watch
// that could not be set up.
func (g *Guard) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("guard CNI configuration: %w", err)
	}
	defer watcher.Close()
	tick := time.NewTicker(guardPeriod)
	defer tick.Stop()
	for {
		// Level-triggered: an event only says that it is time to look. A watch
		// ends with its directory, so it is set anew each time; setting it twice
		// is one watch.
		if err := errors.Join(g.look(), watcher.Add(g.Dir)); err != nil {
			g.Log.Warn("CNI configuration is not guarded for the moment", "dir", g.Dir, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
		case err := <-watcher.Errors:
			g.Log.Warn("watch of the CNI configuration directory", "dir", g.Dir, "error", err)
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(guardPause):
		}
		drain(watcher)
	}
}

// drain takes the events that one look answers for, those of the guard's own
// writing among them.
func drain(w *fsnotify.Watcher) {
	for {
		select {
		case <-w.Events:
		default:
			return
		}
	}
}

// look puts the file back if it is not right and tells of files before it.
func (g *Guard) look() error {
	seen := g.state()
	changed, err := Conf(g.Dir, g.Conf)
	if err != nil {
		return err
	}
	if changed {
		g.Log.Warn("CNI configuration restored", "file", filepath.Join(g.Dir, ConfName), "found", seen)
		if g.Restored != nil {
			g.Restored(seen)
		}
	}
	return g.shadow()
}

// state says in words what is at the file's place.
func (g *Guard) state() string {
	data, err := os.ReadFile(filepath.Join(g.Dir, ConfName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "renamed or deleted"
	case err != nil:
		return err.Error()
	case len(data) == 0:
		return "empty"
	}
	return "changed"
}

// shadow looks for files that a runtime reads before ours: it takes the first one
// in lexical order (containerd with max_conf_num 1, CRI-O), so Tendril is then
// not called at all.
func (g *Guard) shadow() error {
	entries, err := os.ReadDir(g.Dir)
	if err != nil {
		return err
	}
	var files []string
	for _, e := range entries { // sorted by name
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			if e.Name() < ConfName && !e.IsDir() {
				files = append(files, e.Name())
			}
		}
	}
	if slices.Equal(files, g.shadows) {
		return nil
	}
	g.shadows = files
	if len(files) > 0 {
		g.Log.Warn("the runtime takes another CNI configuration before Tendril's: its pods get no further networks", "dir", g.Dir, "files", files)
	}
	if g.Shadowed != nil {
		g.Shadowed(files)
	}
	return nil
}
