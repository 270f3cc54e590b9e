package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unpack extracts the files of one package into dir. It is done here rather
// than by dpkg -x because the tree is to have a merged /usr whatever release
// the package is from, and because what is not kept need not be written.
func unpack(ctx context.Context, file, dir string, set PackageSet) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	extractErr := extract(out, dir, set)
	_, drainErr := io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, stderr.String())
	}
	return errors.Join(extractErr, drainErr)
}

func extract(r io.Reader, dir string, set PackageSet) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := mergedName(h.Name)
		if !ok || !set.keeps(name) {
			continue
		}
		if err := extractOne(archive, h, dir, name); err != nil {
			return fmt.Errorf("extract %s: %w", name, err)
		}
	}
}

// mergedName maps a path in a package to its place in a merged-/usr tree. The
// aliases themselves (lib -> usr/lib) are left out: [finishTree] makes them.
func mergedName(name string) (string, bool) {
	name = filepath.Clean("/" + name)[1:]
	top, rest, below := strings.Cut(name, "/")
	switch top {
	case "":
		return "", false
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return "usr/" + name, below && rest != ""
	}
	return name, true
}

func (s PackageSet) keeps(name string) bool {
	for _, skip := range s.Skip {
		if under(name, skip) {
			return false
		}
	}
	for _, keep := range s.Keep {
		if under(name, keep) {
			return true
		}
	}
	return len(s.Keep) == 0
}

func under(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
}

func extractOne(r io.Reader, h *tar.Header, dir, name string) error {
	path := filepath.Join(dir, name)
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return extractFile(r, path, h.FileInfo().Mode())
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	case tar.TypeLink:
		target, _ := mergedName(h.Linkname)
		return os.Link(filepath.Join(dir, target), path)
	default:
		return nil // packages that matter here have no device nodes
	}
}

func extractFile(r io.Reader, path string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Chmod(path, mode|0o200)
}

// finishTree adds the aliases of a merged /usr.
func finishTree(dir string) error {
	for _, top := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(dir, "usr", top), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+top, filepath.Join(dir, top)); err != nil {
			return err
		}
	}
	return nil
}
