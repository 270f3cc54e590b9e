package oci

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path"
	"time"
)

// epoch is the modification time of every entry: a real time would make equal images differ.
var epoch = time.Unix(0, 0)

// writeLayer writes the files as an uncompressed layer. Nothing is gained by compressing what is
// copied once within one machine.
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
