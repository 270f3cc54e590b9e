package deviceplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// FileOptions say where a File is.
type FileOptions struct {
	// Path of the configuration, in the format of Parse; empty for none. A
	// ConfigMap mounted as a directory works: its files are links that change all
	// at once (Kubernetes documentation, "Mounted ConfigMaps are updated
	// automatically").
	Path string
	// Prefix is for resources without resourcePrefix.
	Prefix string
	// Good is where the newest good content is kept, so that a restart beside a
	// bad file finds what was served before; empty for nowhere.
	Good string
	// Optional: a file that never was there is none, and no failure. One that was
	// there, in this process or by what Good says in an earlier one, has to be.
	Optional bool
	// Log is required.
	Log *slog.Logger
}

// File is a configuration file that is followed while it changes. What it says is
// in force from the moment it is good; until then what was good before is.
//
// Run is called once, Err at any time.
type File struct {
	opts FileOptions
	// err is why the newest content is not in force; it points to nil when it is.
	err atomic.Pointer[error]
	// seen is the content looked at last, whatever became of it; nil before the
	// first look and for a file that could not be read.
	seen []byte
	// known: there was something to look at.
	known bool
}

// OpenFile reads the file. When it is bad, the configuration is the one that was
// good last, by an earlier process if need be, or the empty one, and Err says
// why.
func OpenFile(o FileOptions) (*File, Config) {
	f := &File{opts: o}
	if o.Path == "" {
		return f, Config{}
	}
	if cfg, fresh := f.read(); fresh {
		return f, cfg
	}
	good, err := os.Open(o.Good)
	if err != nil {
		return f, Config{}
	}
	defer good.Close()
	cfg, err := Parse(good, o.Good, o.Prefix)
	if err != nil {
		return f, Config{}
	}
	o.Log.Warn("pools are those of the last good configuration", "path", o.Good, "resources", len(cfg.Resources))
	return f, cfg
}

// Err returns why the newest content of the file is not in force, or nil. The
// error names file, resource, field, value and what is allowed.
func (f *File) Err() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// read looks at the file; fresh means that it says something else than at the
// last look and that this is good.
func (f *File) read() (cfg Config, fresh bool) {
	data, err := os.ReadFile(f.opts.Path)
	if errors.Is(err, fs.ErrNotExist) && f.opts.Optional && !f.wasThere() {
		return Config{}, false
	}
	if err != nil {
		f.seen = nil
		f.bad(refusal.New(fmt.Sprintf("file %q", f.opts.Path), "", "nothing readable", "a configuration of device pools").Because(err))
		return Config{}, false
	}
	if f.seen != nil && bytes.Equal(data, f.seen) {
		return Config{}, false
	}
	f.seen, f.known = data, true
	if f.seen == nil {
		f.seen = []byte{}
	}
	cfg, err = Parse(bytes.NewReader(data), f.opts.Path, f.opts.Prefix)
	if err != nil {
		f.bad(err)
		return Config{}, false
	}
	if f.Err() != nil {
		f.opts.Log.Info("configuration of device pools is good again", "path", f.opts.Path)
	}
	f.err.Store(new(error))
	f.keep(data)
	return cfg, true
}

// wasThere says whether there was such a file, now or in an earlier process.
func (f *File) wasThere() bool {
	if f.known || f.opts.Good == "" {
		return f.known
	}
	_, err := os.Stat(f.opts.Good)
	return !errors.Is(err, fs.ErrNotExist)
}

// bad notes a failure, and logs it when it is another one than before.
func (f *File) bad(err error) {
	if before := f.Err(); before == nil || before.Error() != err.Error() {
		f.opts.Log.Warn("configuration of device pools refused, the pools stay as they are", "error", err)
	}
	f.err.Store(&err)
}

// keep writes the good content aside. Failing at it costs nothing now.
func (f *File) keep(data []byte) {
	if f.opts.Good == "" {
		return
	}
	if err := replaceFile(filepath.Dir(f.opts.Good), filepath.Base(f.opts.Good), data); err != nil {
		f.opts.Log.Warn("good configuration of device pools not kept for a restart", "path", f.opts.Good, "error", err)
	}
}

const (
	// writing is how long a file may be in the making: editors and copies write
	// in more than one step.
	writing = 50 * time.Millisecond
	// fileSweep is how often the file is looked at without a sign from the kernel.
	fileSweep = 10 * time.Second
)

// Run calls changed with each new good configuration until ctx ends, and returns
// nil then. It watches the directory of the file, which tells of renames and of
// the links of a ConfigMap.
func (f *File) Run(ctx context.Context, changed func(Config)) error {
	if f.opts.Path == "" {
		<-ctx.Done()
		return nil
	}
	w := &fsnotify.Watcher{} // its channels are nil and silent
	if real, err := fsnotify.NewWatcher(); err != nil {
		f.opts.Log.Warn("configuration of device pools is only looked at now and then", "every", fileSweep, "error", err)
	} else {
		w = real
		defer w.Close()
	}
	for {
		f.watch(w)
		// Only now, so that nothing can happen between looking and watching.
		if cfg, fresh := f.read(); fresh {
			changed(cfg)
		}
		if !f.wait(ctx, w) {
			return nil
		}
	}
}

// watch adds the directory of the path and, where that is a link, of the file
// itself. Adding again what is watched changes nothing.
func (f *File) watch(w *fsnotify.Watcher) {
	if w.Events == nil {
		return
	}
	_ = w.Add(filepath.Dir(f.opts.Path)) // not there: the sweep finds it
	if target, err := filepath.EvalSymlinks(f.opts.Path); err == nil {
		_ = w.Add(filepath.Dir(target))
	}
}

// wait returns a moment after an event, or at the sweep; it returns false when ctx
// has ended.
func (f *File) wait(ctx context.Context, w *fsnotify.Watcher) bool {
	due := time.NewTimer(fileSweep)
	defer due.Stop()
	for stirred := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			return true
		case <-w.Events:
		case err := <-w.Errors:
			f.opts.Log.Debug("configuration watch", "error", err)
		}
		if !stirred { // a directory that never rests is looked at all the same
			stirred = true
			due.Reset(writing)
		}
	}
}
