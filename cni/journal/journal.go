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

// mapSize is how much of the file is mapped from the beginning, in bytes, there or not.
// To map more, bbolt waits until nobody reads; the copier reads as long as its disk
// takes to write, and calls would wait with it. It costs address space alone.
const mapSize = 256 << 20

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
// (a reboot, or a journal that cannot be read), else empty. What cannot be read, be it
// the journal or the copy, is set aside beside its old place, never deleted.
func Open(o Options) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	db, restored, err := openOrReplace(o)
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

// openOrReplace opens the journal, or what takes its place.
func openOrReplace(o Options) (db *bolt.DB, restored bool, err error) {
	db, err = openWhole(o.Path)
	if unreadable(err) {
		if err = setAside(o, o.Path, "journal cannot be read and was set aside; its copy on disk takes its place", err); err != nil {
			return nil, false, err
		}
		return fromCopy(o)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fromCopy(o)
	}
	return db, false, err
}

// fromCopy opens a journal in the place of one that is not there.
func fromCopy(o Options) (db *bolt.DB, restored bool, err error) {
	if restored, err = restore(o); err != nil {
		return nil, false, err
	}
	if restored {
		db, err = openWhole(o.Path)
		if !unreadable(err) {
			return db, true, err
		}
		// A node without a memory works; one that does not start helps nobody.
		err = setAside(o, o.CopyPath, "copy of the journal cannot be read and was set aside; the journal starts empty", err)
		if err = errors.Join(err, os.Remove(o.Path)); err != nil {
			return nil, false, err
		}
	}
	db, err = openChecked(o.Path)
	return db, false, err
}

// unreadable says of an error of openWhole that the file is there, nobody else has it
// and it is no journal.
func unreadable(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, bolterrors.ErrTimeout)
}

// setAside renames a file that is unreadable because of cause, and says so.
func setAside(o Options, path, what string, cause error) error {
	aside := path + ".unreadable-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(path, aside); err != nil {
		return errors.Join(cause, err)
	}
	o.Log.Error(what, "journal", path, "aside", aside, "error", cause)
	return nil
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

// openWhole is openChecked for a file that has to be there.
func openWhole(path string) (*bolt.DB, error) {
	if err := whole(path); err != nil {
		return nil, err
	}
	return openChecked(path)
}

// openChecked opens the file, or makes it, and walks it, so that a torn or truncated file is
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
		FreelistType: bolt.FreelistMapType, InitialMmapSize: mapSize,
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
