package oci

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image describes an image of one layer, for Linux.
type Image struct {
	// Architecture is one of Go's names; amd64 when empty.
	Architecture string
	// Labels are the image's, for people and tools (org.opencontainers.image.*).
	Labels map[string]string
	// Name is the full reference, tag included, under which the runtime will know the image.
	Name string
	// Entrypoint is the command that a container runs unless its pod says otherwise.
	Entrypoint []string
	// Env holds KEY=value settings; PATH is set when they do not set it.
	Env []string
	// Files are the content, in any order. Their parent directories are made as needed.
	Files []File
}

// File is one entry of an image: a regular file whose content is Data or that of the file Source on
// this machine, or a symbolic link to Link. Exactly one of the three is set, save that a regular file
// may be empty.
type File struct {
	Path   string
	Source string
	Data   []byte
	Link   string
	// Mode is the file's permissions; zero means 0755, since most of what the lab ships is run.
	Mode fs.FileMode
}

// Program is the file of a program: the one at source on this machine, executable at path in the image.
func Program(path, source string) File { return File{Path: path, Source: source} }

// Link is a symbolic link at path that points to target.
func Link(path, target string) File { return File{Path: path, Link: target} }

func (f File) mode() int64 {
	if f.Mode == 0 {
		return 0o755
	}
	return int64(f.Mode.Perm())
}

// name is the file's path as archives spell it: relative and clean.
func (f File) name() string { return strings.TrimPrefix(path.Clean("/"+f.Path), "/") }

func (f File) size() (int64, error) {
	if f.Source == "" {
		return int64(len(f.Data)), nil
	}
	info, err := os.Stat(f.Source)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is not a regular file", f.Source)
	}
	return info.Size(), nil
}

// sorted returns the files in the order of their paths, in which every archive lists them.
func (i Image) sorted() ([]File, error) {
	files := slices.Clone(i.Files)
	slices.SortStableFunc(files, func(a, b File) int { return strings.Compare(a.name(), b.name()) })
	for n, f := range files {
		switch {
		case f.name() == "":
			return nil, fmt.Errorf("file %d has no path", n)
		case n > 0 && files[n-1].name() == f.name():
			return nil, fmt.Errorf("two files at /%s", f.name())
		case f.Link != "" && (f.Source != "" || f.Data != nil), f.Source != "" && f.Data != nil:
			return nil, fmt.Errorf("file /%s has more than one content", f.name())
		}
	}
	return files, nil
}

func (i Image) platform() *v1.Platform {
	return &v1.Platform{OS: "linux", Architecture: cmp.Or(i.Architecture, "amd64")}
}

// make is the image with its layer, of which the digest is known.
func (i Image) make() (v1.Image, error) {
	files, err := i.sorted()
	if err != nil {
		return nil, err
	}
	l, err := newLayer(files)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(base, &v1.ConfigFile{
		OS: "linux", Architecture: i.platform().Architecture, Created: v1.Time{Time: epoch.UTC()},
		Config: v1.Config{Entrypoint: i.Entrypoint, Env: i.env(), Labels: i.Labels},
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: l})
}

func (i Image) env() []string {
	if slices.ContainsFunc(i.Env, func(s string) bool { return strings.HasPrefix(s, "PATH=") }) {
		return i.Env
	}
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, i.Env...)
}

// tag is the part of the name after its last colon, or "latest". A colon before a slash belongs to a
// registry's port.
func (i Image) tag() string {
	if n := strings.LastIndexByte(i.Name, ':'); n > strings.LastIndexByte(i.Name, '/') {
		return i.Name[n+1:]
	}
	return "latest"
}
