package krew

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"text/template"
)

// Archive is one platform's.
type Archive struct {
	OS, Arch string
	// Name is the file's, Bin the program's inside of it.
	Name, Bin string
	// SHA256 is the file's, in hexadecimal.
	SHA256 string
}

// Pack packs a program for a platform, with further files beside it, into a
// directory.
func Pack(dir, goos, arch, program string, beside ...string) (Archive, error) {
	a := Archive{OS: goos, Arch: arch, Name: fmt.Sprintf("kubectl-tendril_%s_%s.tar.gz", goos, arch), Bin: filepath.Base(program)}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	for _, path := range append([]string{program}, beside...) {
		if err := add(t, path); err != nil {
			return a, fmt.Errorf("pack %s: %w", path, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return a, err
	}
	sum := sha256.Sum256(out.Bytes())
	a.SHA256 = hex.EncodeToString(sum[:])
	return a, os.WriteFile(filepath.Join(dir, a.Name), out.Bytes(), 0o644)
}

// add adds a file without what differs from build to build.
func add(t *tar.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := t.WriteHeader(&tar.Header{Name: filepath.Base(path), Mode: mode, Size: info.Size(), Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// version is a semantic version with a v, as Krew wants it.
var version = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// Manifest fills the template in.
func Manifest(text, tag string, archives []Archive) ([]byte, error) {
	if !version.MatchString(tag) {
		return nil, fmt.Errorf("version %q is not allowed; allowed: v<major>.<minor>.<patch>", tag)
	}
	t, err := template.New("manifest").Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, struct {
		Version  string
		Archives []Archive
	}{tag, archives})
	return out.Bytes(), err
}
