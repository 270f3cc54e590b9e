package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tendril-cni/tendril/cni/rpc"
)

// Bounds of the directory. A node runs some hundred pods; what comes beyond is
// no DEL that a runtime would send.
const (
	// MaxEntries is how many DELs may wait.
	MaxEntries = 4096
	// MaxSize is the size of one file in bytes.
	MaxSize = 1 << 20
)

// suffix of a whole entry. What is being written has another one.
const suffix = ".del"

// version of a file. Fields of the request may be added without a new one.
const version = 1

type file struct {
	Version int         `json:"version"`
	Request rpc.Request `json:"request"`
}

// FullError says that the spool takes no more.
type FullError struct {
	// Dir is the directory, What the bound that is reached.
	Dir, What string
}

// Error implements error.
func (e *FullError) Error() string {
	return "spool " + e.Dir + " is full: " + e.What
}

// Put writes r, a DEL, durably into dir. The error wraps fs.ErrNotExist when
// there is no directory, and is a *FullError when a bound is reached.
func Put(dir string, r rpc.Request) error {
	if err := put(dir, r); err != nil {
		return fmt.Errorf("spool %s of container %s: %w", r.Command, r.ContainerID, err)
	}
	return nil
}

func put(dir string, r rpc.Request) error {
	name, err := nameOf(r.ContainerID, r.IfName)
	if err != nil {
		return err
	}
	data, err := json.Marshal(file{Version: version, Request: r})
	if err != nil {
		return err
	}
	if len(data) > MaxSize {
		return &FullError{Dir: dir, What: strconv.Itoa(len(data)) + " bytes in one entry, allowed: 0.." + strconv.Itoa(MaxSize)}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) >= MaxEntries {
		return &FullError{Dir: dir, What: strconv.Itoa(len(entries)) + " entries, allowed: 0.." + strconv.Itoa(MaxEntries)}
	}
	// Named for this process: two DELs of one container do not share a file.
	part := filepath.Join(dir, "."+name+"."+strconv.Itoa(os.Getpid()))
	if err := writeSynced(part, data); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, filepath.Join(dir, name)); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return syncDir(dir)
}

// Drop removes the entry of a call that was served after all. An absent one is
// fine.
func Drop(dir, container, ifName string) error {
	name, err := nameOf(container, ifName)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from spool: %w", err)
	}
	return nil
}

// nameOf is the file name of a call. Both parts come from the runtime; the shim
// has checked them, and a name that would leave the directory is refused anyway.
func nameOf(container, ifName string) (string, error) {
	name := container + "@" + ifName + suffix
	if container == "" || ifName == "" || filepath.Base(name) != name || name[0] == '.' {
		return "", fmt.Errorf("container %q and interface %q make no file name", container, ifName)
	}
	return name, nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
