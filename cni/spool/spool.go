package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// Spool is the daemon's end of the directory. Use Open.
type Spool struct{ dir string }

// Entry is one DEL that waits.
type Entry struct {
	// Request is the call as the shim received it; its Command is DEL.
	Request rpc.Request
	// Since is when it was spooled, by the clock of the node's file system.
	Since time.Time
	name  string
}

// Open makes the directory, with mode 0700, and so tells shims that their DELs
// will be served.
func Open(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	// An entry in a directory that a power cut takes back would be lost with it.
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &Spool{dir: dir}, nil
}

// Close ends the promise: shims report errors again. The directory goes if it is
// empty, and stays with its entries if it is not; left says how many they are.
func (s *Spool) Close() (left int, err error) {
	entries, err := s.List()
	if err != nil || len(entries) > 0 {
		return len(entries), err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return 0, fmt.Errorf("close spool: %w", err)
	}
	return 0, nil
}

// Dir is the directory.
func (s *Spool) Dir() string { return s.dir }

// List returns what waits, the oldest first. A file that cannot be read is no
// reason not to serve the others: they are returned together with the errors.
func (s *Spool) List() ([]Entry, error) {
	files, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	var out []Entry
	var errs []error
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) || f.Name()[0] == '.' {
			continue
		}
		e, err := s.read(f.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // its shim was answered meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("read spool entry %s: %w", f.Name(), err))
		default:
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return a.Since.Compare(b.Since) })
	return out, errors.Join(errs...)
}

func (s *Spool) read(name string) (Entry, error) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Entry{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize))
	if err != nil {
		return Entry{}, err
	}
	var in file
	if err := json.Unmarshal(data, &in); err != nil {
		return Entry{}, err
	}
	switch want, err := nameOf(in.Request.ContainerID, in.Request.IfName); {
	case in.Version != version:
		return Entry{}, fmt.Errorf("version %d is not supported; allowed: %d (written by a shim of another release)", in.Version, version)
	case err != nil:
		return Entry{}, err
	case in.Request.Command != "DEL" || want != name:
		return Entry{}, fmt.Errorf("it holds %s of %s", in.Request.Command, want)
	}
	return Entry{Request: in.Request, Since: info.ModTime(), name: name}, nil
}

// Put is the package's Put, for calls that the daemon itself finds to be owed.
func (s *Spool) Put(r rpc.Request) error { return Put(s.dir, r) }

// Done removes e, which has been served. An absent one is fine. The removal is
// not fsynced: an entry that a power cut brings back is served twice, and a DEL
// may be.
func (s *Spool) Done(e Entry) error {
	if err := os.Remove(filepath.Join(s.dir, e.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from spool: %w", err)
	}
	return nil
}
