package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/lab/cache"
	"github.com/tendril-cni/tendril/tests/lab/programs"
)

// names are what our executable is called in the tests, beside dhcp, which is one
// of its own.
var names = strings.Fields("sriov macvlan ipvlan vlan bridge host-device tuning sbr vrf bond static host-local")

// executables are built where there is a compiler, which is outside of the
// tests' namespaces and outside of the machine; both see this folder.
func executables() (dir string, err error) {
	root, err := cache.Root()
	return filepath.Join(root, "conformance"), err
}

// nearby is executables for this process: a machine reads the folder over the
// wire, for every start of a program anew, so it gets a copy.
var nearby = sync.OnceValues(func() (string, error) {
	dir, err := executables()
	if err != nil || os.Getenv("TENDRIL_LAB_GUEST") == "" {
		return dir, err
	}
	local, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return "", err
	}
	for _, side := range []string{"reference", "tendril"} {
		if err := os.Mkdir(filepath.Join(local, side), 0o755); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"reference/macvlan", "reference/ipvlan", "reference/vlan", "reference/bridge", "reference/vrf", "reference/host-device", "reference/host-local", "reference/static", "reference/tuning", "reference/sbr", "reference/dhcp", "tendril/tendril-cni", "tendril/dhcp"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("an ordinary run of this package builds the executables: %w", err)
		}
		if err := os.WriteFile(filepath.Join(local, name), data, 0o755); err != nil {
			return "", err
		}
	}
	for _, n := range names {
		if err := os.Symlink("tendril-cni", filepath.Join(local, "tendril", n)); err != nil {
			return "", err
		}
	}
	return local, nil
})

func TestMain(m *testing.M) {
	if os.Getenv("TENDRIL_LAB_GUEST") == "" && os.Getenv("TENDRIL_TEST_INSIDE_NAMESPACES") == "" {
		if err := build(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "conformance: build the executables:", err)
			os.Exit(1)
		}
	}
	netnstest.Main(m)
}

func build(ctx context.Context) error {
	dir, err := executables()
	if err != nil {
		return err
	}
	reference, err := programs.Plugins(ctx)
	if err != nil {
		return err
	}
	ours := filepath.Join(dir, "tendril")
	if err := os.MkdirAll(ours, 0o755); err != nil {
		return err
	}
	// What an earlier build made a link would be written through.
	if err := os.RemoveAll(filepath.Join(ours, "dhcp")); err != nil {
		return err
	}
	for program, source := range map[string]string{"tendril-cni": "../../cmd/tendril-cni", "dhcp": "../../cmd/tendril-dhcp"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(ours, program), source)
		cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	for _, n := range names {
		if err := link("tendril-cni", filepath.Join(ours, n)); err != nil {
			return err
		}
	}
	// Relative, since the machine may have the folder elsewhere.
	to, err := filepath.Rel(dir, reference)
	if err != nil {
		return err
	}
	return link(to, filepath.Join(dir, "reference"))
}

// link makes path a symbolic link to target, whatever it was.
func link(target, path string) error {
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
