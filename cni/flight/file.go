package flight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// gather is how long a failure may wait for others before the file is written.
const gather = time.Second

// mostFile bounds what is read: JSON is larger than the memory that it is about,
// but not by much.
const mostFile = 4 << 20

// file is the content of Options.File.
type file struct {
	Failures []*Trace `json:"failures"`
}

func (r *Recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Recorder) keep(ctx context.Context) error {
	for {
		dirty := false
		select {
		case <-r.wake:
			dirty = true
		case <-ctx.Done():
		}
		select {
		case <-time.After(gather):
		case <-ctx.Done():
		}
		select {
		case <-r.wake:
			dirty = true
		default:
		}
		if dirty {
			r.save()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (r *Recorder) save() {
	if err := r.write(); err != nil {
		r.opts.Log.Warn("failures not kept for a restart", "path", r.opts.File, "error", err)
	}
}

// write replaces the file. It is not synced: after a power cut the calls that it
// is about are over.
func (r *Recorder) write() error {
	if r.opts.File == "" {
		return nil
	}
	r.mu.Lock()
	content := file{Failures: slices.Clone(r.failures.traces)}
	r.mu.Unlock()
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.opts.File), 0o700); err != nil {
		return err
	}
	// One writer, one name: what a crash leaves is overwritten.
	fresh := r.opts.File + ".new"
	if err := os.WriteFile(fresh, data, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, r.opts.File)
}

// load reads the file. Whatever is wrong with it, the next failure replaces it.
func (r *Recorder) load() []*Trace {
	if r.opts.File == "" {
		return nil
	}
	content, err := read(r.opts.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.opts.Log.Warn("failures of an earlier daemon cannot be read", "path", r.opts.File, "error", err)
	}
	return slices.DeleteFunc(content.Failures, func(t *Trace) bool { return t == nil || t.Error == "" })
}

func read(path string) (content file, err error) {
	f, err := os.Open(path)
	if err != nil {
		return content, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostFile+1))
	if err == nil && len(data) > mostFile {
		err = fmt.Errorf("read %s: longer than %d bytes", path, mostFile)
	}
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	return content, err
}
