package sweep

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/journal"
)

// Attached starts a daemon, has it attach the pod, and waits until the copy of the
// journal on disk knows it.
func (s Sweep) Attached(t *testing.T) (stand *Stand, v *Victim, before string) {
	t.Helper()
	stand = s.Stand(t)
	before = s.World(stand)
	v = stand.Start("", -1)
	if err := stand.Call("ADD"); err != nil {
		t.Fatalf("%v\n%s", err, v.out.String())
	}
	stand.awaitCopy(s.Attachments)
	return stand, v, before
}

// awaitCopy waits until the copy has that many attachments, all complete.
func (s *Stand) awaitCopy(attachments int) {
	s.T.Helper()
	for deadline := time.Now().Add(callTime); ; {
		if n := s.copied(); n == attachments {
			return
		}
		if time.Now().After(deadline) {
			s.T.Fatal("the journal's copy does not get there")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Stand) copied() (complete int) {
	data, err := os.ReadFile(filepath.Join(s.Dir, "state", "journal.db"))
	if err != nil {
		return 0
	}
	path := filepath.Join(s.T.TempDir(), "copy.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.T.Fatal(err)
	}
	j, err := journal.Open(journal.Options{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.T.Fatal(err)
	}
	defer j.Close()
	_ = j.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			if strings.Contains(string(e.Data), `"phase":"attached"`) {
				complete++
			}
		}
		return nil
	})
	return complete
}

// TruncatedJournal cuts the journal of a node off at several places while no
// daemon runs: the copy takes its place, and the pod's DEL is right.
func (s Sweep) TruncatedJournal(t *testing.T) {
	for name, keep := range map[string]float64{"nothing": 0, "one page": -4096, "half": 0.5, "all but the end": 0.95} {
		t.Run(name, func(t *testing.T) {
			stand, v, before := s.Attached(t)
			stand.Stop(v)
			path := filepath.Join(stand.Dir, "run", "journal.db")
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			size := int64(float64(info.Size()) * keep)
			if keep < 0 {
				size = int64(-keep)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			v = stand.Start("", -1)
			for _, command := range []string{"CHECK", "DEL"} {
				if err := stand.Call(command); err != nil {
					t.Fatalf("%v\n%s", err, v.out.String())
				}
			}
			stand.Stop(v)
			s.Empty(stand, before)
		})
	}
}

// FullDisk fills the file system of the journal, or that of its copy, before ADD
// and before DEL. An ADD that has no room for its record is refused with the reason
// and leaves the world before it; a DEL as a rule has room in what it gives up, or
// says the same and is tried again; the copy may wait. With room again everything
// is as ever.
func (s Sweep) FullDisk(t *testing.T) {
	for _, dir := range []string{"run", "state"} {
		for _, command := range []string{"ADD", "DEL"} {
			t.Run(dir+" before "+command, func(t *testing.T) { s.fullDisk(t, dir, command) })
		}
	}
}

func (s Sweep) fullDisk(t *testing.T, dir, command string) {
	stand := s.Stand(t)
	before := s.World(stand)
	stand.mount(dir)
	v := stand.Start("", -1)
	// STATUS waits for the daemon to serve; it has no network to ask for.
	_ = stand.Call("CHECK")
	if command == "DEL" {
		if err := stand.Call("ADD"); err != nil {
			t.Fatalf("%v\n%s", err, v.out.String())
		}
	}
	free := stand.fill(dir)
	err := stand.Call(command)
	refused := err != nil && strings.Contains(err.Error(), "journal.db: no space left on device")
	if must, may := dir == "run" && command == "ADD", dir == "run"; must && !refused || err != nil && !(may && refused) {
		t.Errorf("on a full disk %s said: %v", command, err)
	}
	n := strings.Count(s.World(stand), "\n") - strings.Count(before, "\n")
	if command == "ADD" && (err == nil) != (n == s.Attachments) || n != 0 && n != s.Attachments {
		t.Errorf("%s said %v, and %d of %d interfaces are there", command, err, n, s.Attachments)
	}
	free()
	for _, command := range []string{"DEL", "ADD", "CHECK", "DEL"} {
		if err := stand.Call(command); err != nil {
			t.Fatalf("%v\n%s", err, v.out.String())
		}
	}
	stand.Stop(v)
	s.Empty(stand, before)
}

// mount gives the directory a small file system of its own.
func (s *Stand) mount(dir string) {
	s.T.Helper()
	path := filepath.Join(s.Dir, dir)
	err := os.MkdirAll(path, 0o700)
	if err == nil {
		err = unix.Mount("tmpfs", path, "tmpfs", 0, "size=512k,mode=0700")
	}
	if err != nil {
		s.T.Fatalf("mount a small file system: %v", err)
	}
	s.T.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
}

// fill takes all room that is left and returns what gives it back.
func (s *Stand) fill(dir string) (free func()) {
	s.T.Helper()
	path := filepath.Join(s.Dir, dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		s.T.Fatal(err)
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		s.T.Fatalf("the file system does not fill up: %v", err)
	}
	if err := f.Close(); err != nil {
		s.T.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			s.T.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
