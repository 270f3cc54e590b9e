package vftest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Tree unpacks a txtar archive into a temporary directory and returns that
// directory, to be used in place of /sys. Entries are files with the content
// that sysfs would show; when a name comes twice, the later one holds, so a test
// can append to a ready-made archive what it wants to be different.
//
// txtar knows files alone. An entry named LINKS (there may be several, applied
// in order after all files) adds the rest, one item a line:
//
//	bus/pci/devices/0000:01:10.0/physfn -> ../0000:01:00.0   a symbolic link
//	bus/pci/devices/0000:01:10.0/net/                        an empty directory
//	!bus/pci/devices/0000:01:10.0/driver                     not there at all
//
// A link replaces what stood at its path, so does an empty directory. Blank
// lines and lines that begin with # are skipped.
func Tree(t testing.TB, archive string) string {
	t.Helper()
	root := t.TempDir()
	if err := Unpack(root, archive); err != nil {
		t.Fatal(err)
	}
	return root
}

// Unpack is Tree for a directory of the caller's, which must exist.
func Unpack(root, archive string) error {
	a := txtar.Parse([]byte(archive))
	for _, f := range a.Files {
		if f.Name == "LINKS" {
			continue
		}
		if err := write(root, f.Name, f.Data); err != nil {
			return fmt.Errorf("unpack sysfs tree: file %s: %w", f.Name, err)
		}
	}
	for _, f := range a.Files {
		if f.Name != "LINKS" {
			continue
		}
		for line := range strings.SplitSeq(string(f.Data), "\n") {
			if err := apply(root, strings.TrimSpace(line)); err != nil {
				return fmt.Errorf("unpack sysfs tree: line %q: %w", line, err)
			}
		}
	}
	return nil
}

// write makes one attribute. It follows links in the directories above, as a
// process under /sys would, but never out of the tree.
func write(root, name string, data []byte) error {
	path, err := inside(root, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func apply(root, line string) error {
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil
	case strings.HasPrefix(line, "!"):
		path, err := inside(root, line[1:])
		if err != nil {
			return err
		}
		return os.RemoveAll(path)
	case strings.HasSuffix(line, "/"):
		return replace(root, strings.TrimSuffix(line, "/"), func(path string) error { return os.Mkdir(path, 0o755) })
	}
	name, target, ok := strings.Cut(line, " -> ")
	if !ok {
		return fmt.Errorf("want `link -> target`, `directory/` or `!absent`")
	}
	return replace(root, name, func(path string) error { return os.Symlink(strings.TrimSpace(target), path) })
}

func replace(root, name string, make func(string) error) error {
	path, err := inside(root, strings.TrimSpace(name))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return make(path)
}

func inside(root, name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not a path inside the tree", name)
	}
	return filepath.Join(root, name), nil
}
