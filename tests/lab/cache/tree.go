package cache

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Tree is a directory of unpacked packages.
type Tree string

// Path returns the path of a file in the tree.
func (t Tree) Path(elem ...string) string {
	return filepath.Join(append([]string{string(t)}, elem...)...)
}

// Command runs a program of the tree, such as "usr/sbin/mkfs.ext4", with the
// tree's own libraries: the host's C library may be older than the program.
func (t Tree) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	loader := append(t.loader(program), args...)
	cmd := exec.CommandContext(ctx, t.Path("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), loader...)
	cmd.Env = os.Environ()
	return cmd
}

// loader returns the dynamic loader's arguments that start program.
func (t Tree) loader(program string) []string {
	dirs := []string{"usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib/x86_64-linux-gnu/systemd"}
	for i, d := range dirs {
		dirs[i] = t.Path(d)
	}
	return []string{
		"--library-path", strings.Join(dirs, ":"),
		// Multi-call programs (kmod) look at the name they were called by.
		"--argv0", filepath.Base(program),
		t.resolve(program),
	}
}

// resolve follows links from a file of the tree; an absolute one means the
// tree's root, not the host's.
func (t Tree) resolve(file string) string {
	path := t.Path(file)
	for range 10 {
		target, err := os.Readlink(path)
		switch {
		case err != nil:
			return path
		case filepath.IsAbs(target):
			path = t.Path(target)
		default:
			path = filepath.Join(filepath.Dir(path), target)
		}
	}
	return path
}
