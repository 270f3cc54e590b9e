package journal_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/journal"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func open(t *testing.T, o journal.Options) *journal.Journal {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet()
	}
	j, err := journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func put(t *testing.T, j *journal.Journal, container, ifName, data string) {
	t.Helper()
	if err := j.Update("put", func(tx *journal.Tx) error { return tx.Put(container, ifName, []byte(data)) }); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, j *journal.Journal) []string {
	t.Helper()
	var out []string
	err := j.View(func(tx *journal.Tx) error {
		for _, e := range tx.All() {
			out = append(out, e.Container+"/"+e.IfName+"="+string(e.Data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRecordsSurviveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, journal.Options{Path: path})
	put(t, j, "a", "eth0", "1")
	put(t, j, "a", "net1", "2")
	put(t, j, "ab", "eth0", "3")
	j.Close()
	j = open(t, journal.Options{Path: path})
	if d := cmp.Diff([]string{"a/eth0=1", "a/net1=2", "ab/eth0=3"}, all(t, j)); d != "" {
		t.Error(d)
	}
	_ = j.View(func(tx *journal.Tx) error {
		if got := tx.Container("a"); len(got) != 2 {
			t.Errorf("container a has %d records, want its own 2 and none of ab", len(got))
		}
		return nil
	})
}

func TestInvariant3TransactionIsAllOrNothing(t *testing.T) {
	j := open(t, journal.Options{Path: filepath.Join(t.TempDir(), "journal.db")})
	boom := errors.New("boom")
	err := j.Update("half", func(tx *journal.Tx) error {
		if err := tx.Put("a", "eth0", []byte("x")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("error = %v, want the cause", err)
	}
	if got := all(t, j); got != nil {
		t.Errorf("a failed transaction left %v", got)
	}
}

// TestInvariant3KilledInsideATransaction kills a real process right before and
// right after a commit.
func TestInvariant3KilledInsideATransaction(t *testing.T) {
	if path := os.Getenv("JOURNAL_TEST_VICTIM"); path != "" {
		victim(path, os.Getenv("JOURNAL_TEST_POINT"))
	}
	for point, want := range map[string][]string{
		"before second": {"a/eth0=first"},
		"after second":  {"a/eth0=second", "b/eth0=second"},
	} {
		t.Run(point, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			cmd := exec.Command(os.Args[0], "-test.run=^TestInvariant3KilledInsideATransaction$")
			cmd.Env = append(os.Environ(), "JOURNAL_TEST_VICTIM="+path, "JOURNAL_TEST_POINT="+point)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("victim was not killed: %v\n%s", err, out)
			}
			if d := cmp.Diff(want, all(t, open(t, journal.Options{Path: path}))); d != "" {
				t.Error(d)
			}
		})
	}
}

func victim(path, point string) {
	j, err := journal.Open(journal.Options{Path: path, Log: quiet(), OnStep: func(p string) {
		if p == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if err == nil {
		_ = j.Update("first", func(tx *journal.Tx) error { return tx.Put("a", "eth0", []byte("first")) })
		_ = j.Update("second", func(tx *journal.Tx) error {
			return errors.Join(tx.Put("a", "eth0", []byte("second")), tx.Put("b", "eth0", []byte("second")))
		})
	}
	os.Exit(1)
}

func TestCopyTakesThePlaceOfALostJournal(t *testing.T) {
	dir := t.TempDir()
	o := journal.Options{Path: filepath.Join(dir, "run", "journal.db"), CopyPath: filepath.Join(dir, "state", "journal.db")}
	j := open(t, o)
	put(t, j, "a", "eth0", "1")
	j.Close() // writes what the copy lacks
	if err := os.RemoveAll(filepath.Dir(o.Path)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a/eth0=1"}, all(t, open(t, o))); d != "" {
		t.Error(d)
	}
}

func TestCopyFollowsWithoutClose(t *testing.T) {
	dir := t.TempDir()
	o := journal.Options{Path: filepath.Join(dir, "journal.db"), CopyPath: filepath.Join(dir, "state", "copy.db")}
	j := open(t, o)
	put(t, j, "a", "eth0", "1")
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := os.Stat(o.CopyPath); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no copy appeared")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if d := cmp.Diff([]string{"a/eth0=1"}, all(t, open(t, journal.Options{Path: o.CopyPath}))); d != "" {
		t.Error(d)
	}
}

func TestUnreadableJournalIsSetAsideAndReplaced(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"garbage":   func(p string) error { return os.WriteFile(p, []byte("not a journal"), 0o600) },
		"truncated": func(p string) error { return os.Truncate(p, 5000) },
		"empty":     func(p string) error { return os.Truncate(p, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := journal.Options{Path: filepath.Join(dir, "journal.db"), CopyPath: filepath.Join(dir, "state", "journal.db")}
			j := open(t, o)
			put(t, j, "a", "eth0", "1")
			j.Close()
			if err := damage(o.Path); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{"a/eth0=1"}, all(t, open(t, o))); d != "" {
				t.Error(d)
			}
			if aside, _ := filepath.Glob(o.Path + ".unreadable-*"); len(aside) != 1 {
				t.Errorf("the damaged file was not kept: %v", aside)
			}
		})
	}
}

// TestUnreadableCopyKeepsNoNodeFromStarting: after a reboot the copy is all there is.
func TestUnreadableCopyKeepsNoNodeFromStarting(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"garbage":   func(p string) error { return os.WriteFile(p, []byte("not a journal"), 0o600) },
		"truncated": func(p string) error { return os.Truncate(p, 40000) },
		"cut short": func(p string) error { return os.Truncate(p, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := journal.Options{Path: filepath.Join(dir, "run", "journal.db"), CopyPath: filepath.Join(dir, "state", "journal.db")}
			j := open(t, o)
			for i := range 100 {
				put(t, j, fmt.Sprint(i), "eth0", strings.Repeat("x", 1000))
			}
			j.Close()
			if err := os.RemoveAll(filepath.Dir(o.Path)); err != nil {
				t.Fatal(err)
			}
			if err := damage(o.CopyPath); err != nil {
				t.Fatal(err)
			}
			j = open(t, o)
			if got := all(t, j); len(got) != 0 || j.Restored() {
				t.Errorf("restored %v: %v", j.Restored(), got)
			}
			put(t, j, "a", "eth0", "1")
			j.Close()
			if aside, _ := filepath.Glob(o.CopyPath + ".unreadable-*"); len(aside) != 1 {
				t.Errorf("the damaged copy was not kept: %v", aside)
			}
			if d := cmp.Diff([]string{"a/eth0=1"}, all(t, open(t, journal.Options{Path: o.CopyPath}))); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestUpdatesGoOnWhileTheDiskDoesNot: the disk takes the beginning of a copy and no
// more, and the journal grows meanwhile.
func TestUpdatesGoOnWhileTheDiskDoesNot(t *testing.T) {
	dir := t.TempDir()
	o := journal.Options{Path: filepath.Join(dir, "run", "journal.db"), CopyPath: filepath.Join(dir, "journal.db")}
	disk := o.CopyPath + ".new" // a pipe that somebody reads at last
	if err := syscall.Mkfifo(disk, 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, o)
	put(t, j, "first", "eth0", strings.Repeat("x", 200_000)) // more than a pipe has room for
	pipe, err := os.Open(disk)                               // the copier has opened it, too
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if _, err := io.ReadFull(pipe, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			put(t, j, fmt.Sprint(i), "eth0", strings.Repeat("y", 5000))
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("calls wait for the disk")
	}
	go func() { _, _ = io.Copy(io.Discard, pipe) }() // ends with the copier's end of it
	<-done
	j.Close()
}

func TestBootIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, journal.Options{Path: path})
	read := func(j *journal.Journal) (boot string) {
		_ = j.View(func(tx *journal.Tx) error { boot = tx.Boot(); return nil })
		return boot
	}
	if got := read(j); got != "" {
		t.Errorf("a new journal names boot %q", got)
	}
	if err := j.Update("boot", func(tx *journal.Tx) error { return tx.SetBoot("one") }); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if got := read(open(t, journal.Options{Path: path})); got != "one" {
		t.Errorf("boot = %q, want one", got)
	}
}

func BenchmarkUpdate(b *testing.B) {
	j, err := journal.Open(journal.Options{Path: filepath.Join(b.TempDir(), "journal.db"), Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	data := []byte(strings.Repeat("x", 1500))
	for b.Loop() {
		if err := j.Update("bench", func(tx *journal.Tx) error { return tx.Put("a", "eth0", data) }); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCopyLag: it grows while the copy cannot be written, and is over once it is.
func TestCopyLag(t *testing.T) {
	dir := t.TempDir()
	blocker := filepath.Join(dir, "disk")
	j := open(t, journal.Options{Path: filepath.Join(dir, "journal.db"), CopyPath: filepath.Join(blocker, "journal.db")})
	if err := os.WriteFile(blocker, nil, 0o600); err != nil { // a file where a directory has to be
		t.Fatal(err)
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %v", what, j.CopyLag())
			}
		}
	}
	if lag := j.CopyLag(); lag != 0 {
		t.Errorf("lag before the first commit: %v", lag)
	}
	put(t, j, "a", "eth0", "1")
	eventually("lag", func() bool { return j.CopyLag() > 2*journal.CopyDelay })
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	eventually("no lag", func() bool { return j.CopyLag() == 0 })
}
