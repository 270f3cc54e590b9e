package oci

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Media types and annotations of the OCI image format, as far as one image of one layer needs them.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"

	annotationTag  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name" // without it containerd imports the image under no name
)

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

var linux = platform{Architecture: "amd64", OS: "linux"}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type imageConfig struct {
	platform
	Config  runConfig `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	Created string    `json:"created"`
}

type runConfig struct {
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Env        []string `json:"Env"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// WriteFile writes the image's archive to the file name, whole or not at all.
func WriteFile(name string, img Image) error {
	part, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part-")
	if err != nil {
		return fmt.Errorf("write image %s: %w", img.Name, err)
	}
	err = errors.Join(Write(part, img), part.Chmod(0o644), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

// Write writes the image's archive to w. The files named by Source are read twice, once to learn
// their digest and once to copy them, so that no more than a buffer of them is held in memory.
func Write(w io.Writer, img Image) error {
	if err := write(w, img); err != nil {
		return fmt.Errorf("write image %s: %w", img.Name, err)
	}
	return nil
}

func write(w io.Writer, img Image) error {
	files, err := img.sorted()
	if err != nil {
		return err
	}
	layer, err := describeLayer(files)
	if err != nil {
		return err
	}
	config, configBlob := describe(typeConfig, imageConfig{
		platform: linux,
		Config:   runConfig{Entrypoint: img.Entrypoint, Env: img.env()},
		RootFS:   rootFS{Type: "layers", DiffIDs: []string{layer.Digest}},
		Created:  epoch.UTC().Format("2006-01-02T15:04:05Z"),
	})
	top, topBlob := describe(typeManifest, manifest{2, typeManifest, config, []descriptor{layer}})
	top.Platform = &linux
	top.Annotations = map[string]string{annotationName: img.Name, annotationTag: img.tag()}
	_, indexBlob := describe(typeIndex, index{2, typeIndex, []descriptor{top}})

	tw := tar.NewWriter(w)
	for _, blob := range []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{blobPath(config), configBlob},
		{blobPath(top), topBlob},
		{"index.json", indexBlob},
	} {
		if err := writeBlob(tw, blob.name, blob.content); err != nil {
			return err
		}
	}
	if err := writeLayerBlob(tw, layer, files); err != nil {
		return err
	}
	return tw.Close()
}

// describe encodes v and returns its descriptor with the bytes it describes.
func describe(mediaType string, v any) (descriptor, []byte) {
	blob, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types above always encode
	}
	sum := sha256.Sum256(blob)
	return descriptor{MediaType: mediaType, Digest: digest(sum[:]), Size: int64(len(blob))}, blob
}

func describeLayer(files []File) (descriptor, error) {
	m := &meter{Hash: sha256.New()}
	if err := writeLayer(m, files); err != nil {
		return descriptor{}, err
	}
	return descriptor{MediaType: typeLayer, Digest: digest(m.Sum(nil)), Size: m.size}, nil
}

// meter is a hash that counts what it has seen.
type meter struct {
	hash.Hash
	size int64
}

func (m *meter) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.Hash.Write(p)
}

func digest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func blobPath(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }

func writeHeader(tw *tar.Writer, name string, size int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch})
}

func writeBlob(tw *tar.Writer, name string, blob []byte) error {
	if err := writeHeader(tw, name, int64(len(blob))); err != nil {
		return err
	}
	_, err := tw.Write(blob)
	return err
}

// writeLayerBlob writes the layer a second time, now into the archive, and refuses one that no longer
// has the digest by which the manifest names it: a source file changed in between.
func writeLayerBlob(tw *tar.Writer, layer descriptor, files []File) error {
	if err := writeHeader(tw, blobPath(layer), layer.Size); err != nil {
		return err
	}
	m := &meter{Hash: sha256.New()}
	if err := writeLayer(io.MultiWriter(tw, m), files); err != nil {
		return err
	}
	if digest(m.Sum(nil)) != layer.Digest {
		return errors.New("a file changed while it was read")
	}
	return nil
}
