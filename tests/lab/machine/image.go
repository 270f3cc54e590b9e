package machine

import (
	"bytes"
	"context"
	_ "embed" // the scripts of the guest
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

var (
	//go:embed guest/init
	initScript []byte
	//go:embed guest/setup
	setupScript []byte
	//go:embed guest/inittab
	inittab []byte
	//go:embed guest/fstab
	fstab []byte
)

// imageFormat changes when the same inputs would give another image.
const imageFormat = "1"

// imageSize is the size of the root disk; what is not written takes no space.
const imageSize = "6G"

// parts are the artefacts that machines are booted from.
type parts struct {
	qemu  cache.Tree
	image string // directory with vmlinuz, initrd and root.img
}

// Fetch downloads and builds everything that machines need and returns at once
// if it is all there.
func Fetch(ctx context.Context) error {
	_, err := fetch(ctx)
	return err
}

func fetch(ctx context.Context) (parts, error) {
	qemu, err := qemuTree(ctx)
	if err != nil {
		return parts{}, err
	}
	kernel, err := kernelTree(ctx)
	if err != nil {
		return parts{}, err
	}
	guest, err := guestTree(ctx)
	if err != nil {
		return parts{}, err
	}
	key, err := imageKey(kernel, guest)
	if err != nil {
		return parts{}, err
	}
	image, err := cache.Artefact(ctx, "machine", key, func(ctx context.Context, dir string) error {
		return buildImage(ctx, dir, kernel, guest)
	})
	return parts{qemu: qemu, image: image}, err
}

func imageKey(kernel, guest cache.Tree) (string, error) {
	repo, err := cache.Repo()
	if err != nil {
		return "", err
	}
	agent, err := cache.KeyFiles(filepath.Join(repo, agentSource), filepath.Join(repo, protocolSource))
	if err != nil {
		return "", err
	}
	return cache.Key(imageFormat, imageSize, string(kernel), string(guest), agent, runtime.Version(),
		string(initScript), string(setupScript), string(inittab), string(fstab),
		strings.Join(moduleDirs, " "), strings.Join(moduleFiles, " "), strings.Join(earlyModules, " ")), nil
}

// Where the agent's source lies in the repository.
const (
	agentSource    = "tests/lab/guestd"
	protocolSource = "tests/lab/machine/agent"
)

// buildImage makes kernel, initrd and root disk in dir.
func buildImage(ctx context.Context, dir string, kernel, guest cache.Tree) error {
	version, err := kernelVersion(kernel)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	steps := []struct {
		what string
		do   func() error
	}{
		{"copying root file system", func() error { return linkTree(string(guest), root) }},
		{"copying kernel modules", func() error { return linkModules(kernel, version, root) }},
		{"indexing kernel modules", func() error {
			return run(guest.Command(ctx, "usr/sbin/depmod", "-b", root, version))
		}},
		{"building agent", func() error { return buildAgent(ctx, filepath.Join(root, "usr/local/bin/guestd")) }},
		{"configuring root file system", func() error { return configure(root) }},
		{"writing initrd", func() error {
			return writeInitrd(ctx, filepath.Join(dir, "initrd"), guest, filepath.Join(root, "usr/lib/modules", version))
		}},
		{"copying kernel", func() error {
			return os.Link(kernel.Path("boot/vmlinuz-"+version), filepath.Join(dir, "vmlinuz"))
		}},
		{"writing root disk", func() error { return makeDisk(ctx, guest, root, filepath.Join(dir, "root.img"), imageSize) }},
		{"cleaning up", func() error { return os.RemoveAll(root) }},
	}
	for _, s := range steps {
		cache.Report(ctx, "%s", s.what)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// linkTree copies a tree by hard links; files in it are replaced, not changed.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		default:
			return os.Link(path, target)
		}
	})
}

// linkModules copies the modules that machines get.
func linkModules(kernel cache.Tree, version, root string) error {
	from := kernel.Path("usr/lib/modules", version)
	to := filepath.Join(root, "usr/lib/modules", version)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := os.Link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	for _, dir := range moduleDirs {
		sub := filepath.Join(from, "kernel", dir)
		if _, err := os.Stat(sub); err != nil {
			continue // built in, or not in this kernel
		}
		if err := linkTree(sub, filepath.Join(to, "kernel", dir)); err != nil {
			return err
		}
	}
	return linkModuleFiles(from, to)
}

func linkModuleFiles(from, to string) error {
	for _, file := range moduleFiles {
		found, err := filepath.Glob(filepath.Join(from, "kernel", file+".ko*"))
		if err != nil {
			return err
		}
		for _, f := range found {
			target := filepath.Join(to, "kernel", filepath.Dir(file), filepath.Base(f))
			if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.Link(f, target)); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildAgent compiles the agent, static because it must run anywhere.
func buildAgent(ctx context.Context, out string) error {
	if err := cache.Require("go"); err != nil {
		return err
	}
	repo, err := cache.Repo()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./"+agentSource)
	cmd.Dir = repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	return run(cmd)
}

// makeDisk writes an ext4 image holding the files of dir. It keeps its journal:
// a power cut must cost unsynced writes only. When this is not root the files
// are given to root by mapping this user onto it.
func makeDisk(ctx context.Context, guest cache.Tree, dir, image, size string) error {
	cmd := guest.Command(ctx, "usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-d", dir, image, size)
	cmd.Env = append(cmd.Env, "MKE2FS_CONFIG="+guest.Path("etc/mke2fs.conf"))
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr = asRoot(uid, os.Getgid())
	}
	return run(cmd)
}

func asRoot(uid, gid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
	}
}

// run runs a command and puts what it printed into the error.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
