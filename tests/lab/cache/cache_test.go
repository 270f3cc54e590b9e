package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestArtefactIsBuiltOnce(t *testing.T) {
	t.Setenv(EnvRoot, t.TempDir())
	var builds atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := Artefact(t.Context(), "thing", Key("a"), func(_ context.Context, dir string) error {
				builds.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.ReadFile(filepath.Join(dir, "file")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times, want once", n)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	root := t.TempDir()
	t.Setenv(EnvRoot, root)
	broken := errors.New("broken")
	build := func(err error) error {
		_, got := Artefact(t.Context(), "thing", "k", func(_ context.Context, dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), err)
		})
		return got
	}
	if err := build(broken); !errors.Is(err, broken) {
		t.Fatalf("error is %v, want the build's own", err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*", "*k*", "half")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := build(nil); err != nil {
		t.Errorf("the next build: %v", err)
	}
}

func TestKeySeparatesItsParts(t *testing.T) {
	if Key("ab", "c") == Key("a", "bc") {
		t.Error("different parts have the same key")
	}
}

func TestKeyFilesSeesNamesAndContents(t *testing.T) {
	dir := t.TempDir()
	key := func(name, content string) string {
		t.Helper()
		for _, old := range []string{"a", "b"} {
			_ = os.Remove(filepath.Join(dir, old))
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		k, err := KeyFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key("a", "x")
	if key("a", "x") != first || key("a", "y") == first || key("b", "x") == first {
		t.Error("the key does not follow names and contents")
	}
}
