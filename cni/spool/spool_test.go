package spool_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/rpc"
	"github.com/tendril-cni/tendril/cni/spool"
)

func del(container, ifName string) rpc.Request {
	return rpc.Request{ID: "id", Command: "DEL", ContainerID: container, IfName: ifName, NetnsPath: "/run/netns/" + container,
		Args: "K8S_POD_NAME=p", Path: "/opt/cni/bin", StdinData: []byte(`{"cniVersion":"1.0.0"}`)}
}

func open(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "state", "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func requests(t *testing.T, s *spool.Spool) []rpc.Request {
	t.Helper()
	entries, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []rpc.Request
	for _, e := range entries {
		out = append(out, e.Request)
	}
	return out
}

func TestPutIsThereForTheNextDaemonUntilDone(t *testing.T) {
	s := open(t)
	for _, r := range []rpc.Request{del("a", "eth0"), del("a", "eth0"), del("b", "eth0")} {
		if err := spool.Put(s.Dir(), r); err != nil {
			t.Fatal(err)
		}
	}
	again, err := spool.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	got := requests(t, again)
	slices.SortFunc(got, func(a, b rpc.Request) int { return strings.Compare(a.ContainerID, b.ContainerID) })
	if d := cmp.Diff([]rpc.Request{del("a", "eth0"), del("b", "eth0")}, got); d != "" {
		t.Error(d)
	}
	entries, _ := again.List()
	for range 2 {
		if err := again.Done(entries[0]); err != nil {
			t.Fatal(err)
		}
	}
	if got := requests(t, again); len(got) != 1 {
		t.Errorf("%d entries wait, want 1", len(got))
	}
}

func TestWithoutADaemonsDirectoryNothingIsSpooled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := spool.Put(dir, del("a", "eth0")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v, want that there is no directory", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the shim made the directory itself")
	}
}

func TestBounds(t *testing.T) {
	s := open(t)
	var full *spool.FullError
	big := del("a", "eth0")
	big.StdinData = make([]byte, spool.MaxSize)
	if err := s.Put(big); !errors.As(err, &full) {
		t.Errorf("error = %v for a large entry, want that the spool is full", err)
	}
	for i := range spool.MaxEntries {
		if err := os.WriteFile(filepath.Join(s.Dir(), fmt.Sprint("other", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(del("a", "eth0")); !errors.As(err, &full) {
		t.Errorf("error = %v for one too many, want that the spool is full", err)
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	s := open(t)
	for _, name := range [][2]string{{"../a", "eth0"}, {"a", "../eth0"}, {"", "eth0"}, {"a", ""}, {".a", "eth0"}, {strings.Repeat("a", 300), "eth0"}} {
		if err := s.Put(del(name[0], name[1])); err == nil {
			t.Errorf("%q was spooled", name)
		}
	}
	if got, _ := os.ReadDir(s.Dir()); len(got) != 0 {
		t.Errorf("%d files are left, want none", len(got))
	}
}

// TestDamagedEntriesDoNotHoldUpOthers: a torn file cannot come from Put, but the
// directory is on a disk.
func TestDamagedEntriesDoNotHoldUpOthers(t *testing.T) {
	s := open(t)
	if err := s.Put(del("b", "eth0")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a@eth0.del": `{"version":1,`, "c@eth0.del": `{"version":9,"request":{"command":"DEL","containerID":"c","ifName":"eth0"}}`,
		"d@eth0.del":     `{"version":1,"request":{"command":"ADD","containerID":"d","ifName":"eth0"}}`,
		".e@eth0.del.77": `{`, // being written, or cut off while it was
	} {
		if err := os.WriteFile(filepath.Join(s.Dir(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := s.List()
	if len(entries) != 1 || entries[0].Request.ContainerID != "b" {
		t.Errorf("entries = %+v, want b alone", entries)
	}
	for _, name := range []string{"a@eth0.del", "c@eth0.del", "d@eth0.del"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error = %v, want it to name %s", err, name)
		}
	}
}

func TestCloseKeepsWhatWaits(t *testing.T) {
	s := open(t)
	if err := s.Put(del("a", "eth0")); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Close(); err != nil || left != 1 {
		t.Fatalf("left=%d err=%v, want 1 entry", left, err)
	}
	if err := spool.Drop(s.Dir(), "a", "eth0"); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Close(); err != nil || left != 0 {
		t.Fatalf("left=%d err=%v, want none", left, err)
	}
	if err := spool.Put(s.Dir(), del("a", "eth0")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v after the end of the spool, want that there is none", err)
	}
}
