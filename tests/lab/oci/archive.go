package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations by which an archive says the name of its image.
const (
	annotationTag  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name" // without it containerd imports the image under no name
)

// WriteFile writes the archive to the file name, whole or not at all. Several images are one image for
// several architectures; they have one Name.
func WriteFile(name string, images ...Image) error {
	part, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part-")
	if err != nil {
		return fmt.Errorf("write image %s: %w", name, err)
	}
	err = errors.Join(Write(part, images...), part.Chmod(0o644), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

// Write writes the archive to w. The files named by Source are read twice, once to learn their digest and
// once to copy them, so that no more than a buffer of them is held in memory.
func Write(w io.Writer, images ...Image) error {
	if len(images) == 0 {
		return errors.New("write image: none given")
	}
	top, err := index(images)
	if err != nil {
		return fmt.Errorf("write image %s: %w", images[0].Name, err)
	}
	if err := write(w, top); err != nil {
		return fmt.Errorf("write image %s: %w", images[0].Name, err)
	}
	return nil
}

// index is the archive's: it has the image, or for several architectures an index of them, which is what
// a registry keeps.
func index(images []Image) (v1.ImageIndex, error) {
	var all []mutate.IndexAddendum
	for _, img := range images {
		if img.Name != images[0].Name {
			return nil, fmt.Errorf("image %s is of another name", img.Name)
		}
		made, err := img.make()
		if err != nil {
			return nil, err
		}
		all = append(all, mutate.IndexAddendum{Add: made, Descriptor: v1.Descriptor{Platform: img.platform()}})
	}
	if len(all) > 1 {
		all = []mutate.IndexAddendum{{Add: mutate.AppendManifests(ociIndex(), all...)}}
	}
	all[0].Descriptor.Annotations = map[string]string{annotationName: images[0].Name, annotationTag: images[0].tag()}
	return mutate.AppendManifests(ociIndex(), all...), nil
}

func ociIndex() v1.ImageIndex { return mutate.IndexMediaType(empty.Index, types.OCIImageIndex) }

// write writes the layout that OCI's image-layout.md describes, as a tar.
func write(w io.Writer, top v1.ImageIndex) error {
	text, err := top.RawManifest()
	if err != nil {
		return err
	}
	a := archive{tar.NewWriter(w), map[string]bool{}}
	if err := errors.Join(a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)), a.file("index.json", text), a.index(top)); err != nil {
		return err
	}
	return a.Close()
}

// archive is the tar being written, and which blobs it has.
type archive struct {
	*tar.Writer
	has map[string]bool
}

func (a archive) header(name string, size int64) error {
	return a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch})
}

func (a archive) file(name string, content []byte) error {
	if err := a.header(name, int64(len(content))); err != nil {
		return err
	}
	_, err := a.Write(content)
	return err
}

// blob writes content, which digest names, once.
func (a archive) blob(digest v1.Hash, size int64, content io.Reader) error {
	name := "blobs/" + strings.Replace(digest.String(), ":", "/", 1)
	if a.has[name] {
		return nil
	}
	a.has[name] = true
	if err := a.header(name, size); err != nil {
		return err
	}
	_, err := io.Copy(a, content)
	return err
}

// index writes what an index names, depth first.
func (a archive) index(idx v1.ImageIndex) error {
	list, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range list.Manifests {
		var raw interface{ RawManifest() ([]byte, error) }
		if d.MediaType.IsIndex() {
			inner, err := idx.ImageIndex(d.Digest)
			if err == nil {
				err = a.index(inner)
			}
			if err != nil {
				return err
			}
			raw = inner
		} else {
			img, err := idx.Image(d.Digest)
			if err == nil {
				err = a.image(img)
			}
			if err != nil {
				return err
			}
			raw = img
		}
		text, err := raw.RawManifest()
		if err != nil {
			return err
		}
		if err := a.blob(d.Digest, d.Size, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// image writes an image's configuration and layers.
func (a archive) image(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := a.blob(m.Config.Digest, m.Config.Size, bytes.NewReader(config)); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for i, l := range layers {
		content, err := l.Compressed()
		if err != nil {
			return err
		}
		if err := errors.Join(a.blob(m.Layers[i].Digest, m.Layers[i].Size, content), content.Close()); err != nil {
			return err
		}
	}
	return nil
}
