package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/bench/program"
	"github.com/tendril-cni/tendril/tests/lab"
	"github.com/tendril-cni/tendril/tests/lab/cache"
)

func TestMain(m *testing.M) { lab.Main(m, fetch) }

// With the flags of make build, whose cache this uses.
func TestEverythingIsMeasured(t *testing.T) {
	repo, err := cache.Repo()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./cmd/tendril", "./cmd/tendrild", "./cmd/tendril-cni")
	build.Dir, build.Env = repo, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	names := filepath.Join(bin, "cni")
	if err := errors.Join(os.Mkdir(names, 0o755), os.Symlink("../tendril-cni", filepath.Join(names, "macvlan"))); err != nil {
		t.Fatal(err)
	}
	program.Measured(t, bench, bin, parts, "date", "kernel", "cpus", "go", "load before", "load after")
}

func TestWhatIsNotBuiltIsNamed(t *testing.T) {
	s, err := newStand(t.Context(), t.TempDir())
	if err == nil {
		t.Fatal("a daemon started that does not exist", s.close(nil))
	}
	if !strings.Contains(err.Error(), "start tendrild") {
		t.Errorf("error %v", err)
	}
}
