package programs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// module says how one of the modules below this folder is built.
type module struct {
	name     string   // its folder, and the name of the artefact
	packages []string // of the main packages, relative to the module or by import path
	tags     string   // comma-separated build tags
	stamps   []string // values of string variables, as the linker's -X takes them
}

// build returns the directory that holds the module's programs, building them if the cache has none.
func (m module) build(ctx context.Context) (string, error) {
	repo, err := cache.Repo()
	if err != nil {
		return "", err
	}
	src := filepath.Join(repo, "tests", "lab", "programs", m.name)
	key, err := m.key(ctx, src)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", m.name, err)
	}
	return cache.Artefact(ctx, m.name, key, func(ctx context.Context, dir string) error {
		return m.compile(ctx, src, dir)
	})
}

func (m module) key(ctx context.Context, src string) (string, error) {
	files, err := cache.KeyFiles(src)
	if err != nil {
		return "", err
	}
	version, err := goTool(ctx, src, "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("ask for the go version: %w", err)
	}
	return cache.Key(append(m.flags(), files, string(version))...), nil
}

// flags are go build's flags and packages, without the output directory.
func (m module) flags() []string {
	ldflags := "-s -w"
	for _, s := range m.stamps {
		ldflags += " -X " + s
	}
	flags := []string{"-trimpath", "-buildvcs=false", "-tags=" + m.tags, "-ldflags=" + ldflags}
	return append(flags, m.packages...)
}

// compile runs go build and reports how many packages of all it has compiled.
func (m module) compile(ctx context.Context, src, dir string) error {
	cache.Report(ctx, "downloading modules")
	list := goTool(ctx, src, append([]string{"list", "-deps", "-tags=" + m.tags}, m.packages...)...)
	deps, err := list.Output()
	if err != nil {
		return fmt.Errorf("list packages: %w", withStderr(err))
	}
	cmd := goTool(ctx, src, append([]string{"build", "-v", "-o", dir + "/"}, m.flags()...)...)
	meter := &compileMeter{ctx: ctx, total: bytes.Count(deps, []byte("\n"))}
	if err := meter.run(cmd); err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	return nil
}

// goTool is the go command for a static build in dir.
func goTool(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

// withStderr adds what a command that was run by Output said to its error.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}

// compileMeter turns the lines of go build -v, each the name of a package, into progress. Packages
// that Go's own build cache has are not named, so the count may end short of the total.
type compileMeter struct {
	ctx   context.Context
	total int
	count int
	other []string // lines that are no package's name: the compiler's complaints
}

func (m *compileMeter) run(cmd *exec.Cmd) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.read(stderr)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(m.other, "\n"))
	}
	return nil
}

func (m *compileMeter) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		if strings.ContainsAny(line, " #") {
			m.other = append(m.other, line)
			continue
		}
		m.count++
		cache.Report(m.ctx, "compiled %d of at most %d packages, now %s", m.count, m.total, line)
	}
}
