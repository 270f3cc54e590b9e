package bundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Archive is a tar.gz being written. Use New, then Add, then Close.
type Archive struct {
	gzip *gzip.Writer
	tar  *tar.Writer
	root string
	now  time.Time
	// Names are the files so far.
	Names []string
}

// New begins an archive whose files lie below the directory root. now is when its
// files were made.
func New(w io.Writer, root string, now time.Time) *Archive {
	z := gzip.NewWriter(w)
	return &Archive{gzip: z, tar: tar.NewWriter(z), root: root, now: now}
}

// Add adds a file, redacted. Its name is relative, with slashes.
func (a *Archive) Add(name string, text []byte) error {
	clean := path.Clean("/" + strings.ReplaceAll(name, ":", "_"))[1:]
	body := Redact(text)
	err := a.tar.WriteHeader(&tar.Header{Name: path.Join(a.root, clean), Mode: 0o600, Size: int64(len(body)), ModTime: a.now, Format: tar.FormatPAX})
	if err == nil {
		_, err = a.tar.Write(body)
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	a.Names = append(a.Names, clean)
	return nil
}

// Close ends the archive; the file below it is the caller's.
func (a *Archive) Close() error { return errors.Join(a.tar.Close(), a.gzip.Close()) }
