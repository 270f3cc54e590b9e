package delegate_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Each file of testdata is a configuration directory; its comment has lines
// "discover: <outcome>" and "find <name>: <outcome>", an outcome being the file,
// network and plugins found, or "error" and what the error has to say.
func TestDisk(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := unpack(t, archive)
			for line := range strings.Lines(string(archive.Comment)) {
				do, want, ok := strings.Cut(strings.TrimSpace(line), ": ")
				if !ok || strings.HasPrefix(line, "#") {
					continue
				}
				var n netconf.Network
				var path string
				if name, isFind := strings.CutPrefix(do, "find "); isFind {
					n, path, err = delegate.Find(dir, name)
				} else {
					n, path, err = delegate.Discover(dir, func(name string) bool { return strings.HasPrefix(name, "00-tendril") })
				}
				checkOutcome(t, do, dir, n, path, err, want)
			}
		})
	}
}

func checkOutcome(t *testing.T, do, dir string, n netconf.Network, path string, err error, want string) {
	t.Helper()
	if said, isError := strings.CutPrefix(want, "error "); isError {
		var r *refusal.Refusal
		if !errors.As(err, &r) || !strings.Contains(err.Error(), said) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line that says %q", do, err, said)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", do, err)
		return
	}
	var types []string
	for _, p := range n.Plugins {
		types = append(types, p.Type)
	}
	rel, _ := filepath.Rel(dir, path)
	if got := fmt.Sprintf("%s %s %s", rel, n.Name, strings.Join(types, ",")); got != want {
		t.Errorf("%s: %s, want %s", do, got, want)
	}
}

func unpack(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range a.Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDiscoverWithoutADirectory(t *testing.T) {
	_, _, err := delegate.Discover(filepath.Join(t.TempDir(), "absent"), nil)
	if err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error %v, want it to name the directory", err)
	}
}
