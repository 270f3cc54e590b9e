package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// CopyDelay is how far the copy on disk may lag behind a commit.
const CopyDelay = 100 * time.Millisecond

// lockWait bounds the wait for another process to let go of the file: a daemon
// that is being replaced ends within it.
const lockWait = 5 * time.Second

// Options say where a journal lives.
type Options struct {
	// Path of the journal, on a file system that lives as long as the boot.
	Path string
	// CopyPath of the write-behind copy, on disk; empty for none.
	CopyPath string
	Log      *slog.Logger
	// OnStep, when set, is called right before ("before <step>") and right after
	// ("after <step>") each commit. Crash tests stop the process there.
	OnStep func(point string)
}

// Journal is an open journal.
type Journal struct {
	db       *bolt.DB
	opt      Options
	restored bool
	copier   *copier
}

// Open opens the journal at o.Path, or makes it: from the copy if there is one
// (a reboot, or a journal that cannot be read), else empty. A journal that
// cannot be read is set aside beside its old place, never deleted.
func Open(o Options) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	var db *bolt.DB
	var restored bool
	err := whole(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		restored, err = restore(o)
		if err != nil {
			return nil, err
		}
	}
	if err == nil {
		db, err = openChecked(o.Path)
	}
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) {
		db, restored, err = replaceUnreadable(o, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", o.Path, err)
	}
	j := &Journal{db: db, opt: o, restored: restored}
	if err := db.Update(prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare journal %s: %w", o.Path, err), db.Close())
	}
	if o.CopyPath != "" {
		j.copier = startCopier(db, o.CopyPath, o.Log)
	}
	return j, nil
}

// Restored says that the journal is a copy: what was written in the last moments
// before (CopyDelay) may be missing.
func (j *Journal) Restored() bool { return j.restored }

// Close writes what the copy lacks and closes the file. Closing twice is fine.
func (j *Journal) Close() error {
	if j.copier != nil {
		j.copier.stop()
	}
	return j.db.Close()
}

// CopyLag is how long the copy on disk has lacked a commit: 0 while it has all, and
// for a journal without one.
func (j *Journal) CopyLag() time.Duration {
	if j.copier == nil {
		return 0
	}
	since := j.copier.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since))
}

// Update runs fn in a transaction and commits it if fn returns nil; an error of
// fn is returned as it is. step names the transaction for errors and crash tests.
func (j *Journal) Update(step string, fn func(*Tx) error) error {
	var refused error
	err := j.db.Update(func(tx *bolt.Tx) error {
		if refused = fn(&Tx{tx}); refused != nil {
			return refused
		}
		j.at("before " + step)
		return nil
	})
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", step, err)
	}
	j.at("after " + step)
	if j.copier != nil {
		j.copier.wake()
	}
	return nil
}

// View runs fn on a consistent, read-only state.
func (j *Journal) View(fn func(*Tx) error) error {
	return j.db.View(func(tx *bolt.Tx) error { return fn(&Tx{tx}) })
}

func (j *Journal) at(point string) {
	if j.opt.OnStep != nil {
		j.opt.OnStep(point)
	}
}

// openChecked opens the file and walks it, so that a torn or truncated file is
// found now and not in the middle of an ADD.
func openChecked(path string) (db *bolt.DB, err error) {
	// bbolt maps the file: reading a truncated one can fault rather than fail.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read: %v", r)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockWait,
		// tmpfs: a sync costs time and buys nothing.
		NoSync: true, NoGrowSync: true, NoFreelistSync: true,
		FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		for e := range tx.Check() {
			err = errors.Join(err, e)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func replaceUnreadable(o Options, cause error) (db *bolt.DB, restored bool, err error) {
	aside := o.Path + ".unreadable-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(o.Path, aside); err != nil {
		return nil, false, errors.Join(cause, err)
	}
	o.Log.Error("journal cannot be read and was set aside; its copy on disk takes its place", "journal", o.Path, "aside", aside, "error", cause)
	if restored, err = restore(o); err != nil {
		return nil, false, errors.Join(cause, err)
	}
	db, err = openChecked(o.Path)
	return db, restored, err
}
