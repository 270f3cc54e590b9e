package main

import (
	"context"
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

// One round of everything, with the flags of make build, whose cache this uses. How fast it was is nobody's business here.
func TestEverythingIsMeasured(t *testing.T) {
	repo, err := cache.Repo()
	if err != nil {
		t.Fatal(err)
	}
	r := &program.Run{Rounds: 1, Bin: t.TempDir(), Out: t.TempDir()}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", r.Bin, "./cmd/tendril", "./cmd/tendrild", "./cmd/tendril-cni")
	build.Dir, build.Env = repo, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	names := filepath.Join(r.Bin, "cni")
	if err := errors.Join(os.Mkdir(names, 0o755), os.Symlink("../tendril-cni", filepath.Join(names, "macvlan"))); err != nil {
		t.Fatal(err)
	}
	if err := bench.Run(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.Out, "*.tsv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v; want one", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		for _, line := range p.Lines {
			for _, want := range []string{"# " + line.Name + " ", "\n" + p.Name + "\t" + line.Ours + "\t0\t", "\n" + p.Name + "\t" + line.Reference + "\t0\t"} {
				if strings.Count(string(data), want) != 1 {
					t.Errorf("the file does not have %q once:\n%s", want, data)
				}
			}
		}
	}
	for _, f := range []string{"date", "kernel", "cpus", "go", "load before", "load after"} {
		if !strings.Contains(string(data), "# "+f+": ") {
			t.Errorf("the file does not say the %s:\n%s", f, data)
		}
	}
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
