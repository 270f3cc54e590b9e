package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the modification time of every entry: a real time would make equal images differ.
var epoch = time.Unix(0, 0)

// layer is files as an uncompressed layer: nothing is gained by compressing what is copied once within
// one machine, and tools that push to a registry compress. It implements v1.Layer.
type layer struct {
	files []File
	hash  v1.Hash
	size  int64
}

func newLayer(files []File) (*layer, error) {
	m := &meter{Hash: sha256.New()}
	if err := writeLayer(m, files); err != nil {
		return nil, err
	}
	return &layer{files: files, hash: m.digest(), size: m.size}, nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

// Compressed reads the files again, and ends with an error when they no longer have the digest by which
// the manifest names them: a source file changed in between.
func (l *layer) Compressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { // ends with the reader's Close
		m := &meter{Hash: sha256.New()}
		err := writeLayer(io.MultiWriter(w, m), l.files)
		if err == nil && m.digest() != l.hash {
			err = errors.New("a file changed while it was read")
		}
		w.CloseWithError(err)
	}()
	return r, nil
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

func (m *meter) digest() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(m.Sum(nil))}
}

// writeLayer writes the files as a tar.
func writeLayer(w io.Writer, files []File) error {
	tw := tar.NewWriter(w)
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := writeParents(tw, made, path.Dir(f.name())); err != nil {
			return err
		}
		if err := writeEntry(tw, f); err != nil {
			return err
		}
	}
	return tw.Close()
}

func writeParents(tw *tar.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(tw, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch})
}

func writeEntry(tw *tar.Writer, f File) error {
	if f.Link != "" {
		return tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeSymlink, Name: f.name(), Linkname: f.Link, Mode: 0o777, ModTime: epoch,
		})
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name(), Size: size, Mode: f.mode(), ModTime: epoch}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	return copyContent(tw, f)
}

func copyContent(w io.Writer, f File) error {
	if f.Source == "" {
		_, err := io.Copy(w, bytes.NewReader(f.Data))
		return err
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(w, src)
	return err
}
