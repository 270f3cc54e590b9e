package deviceplugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Forget removes what a plugin leaves for those who use its devices when it stops:
// its device-info files in infoDir and its CDI specification in cdiDir, in use or
// not. It is for a node that the plugin is taken off. What is absent is done; files
// of others in the same directories stay.
func Forget(infoDir, cdiDir string) error {
	files := infoFiles{dir: infoDir, inUse: func(string) bool { return false }}
	err := files.forget()
	return errors.Join(err, gone(filepath.Join(cdiDir, cdiFile)))
}

// forget removes the files of all resources in the ledger, and then the ledger.
func (f *infoFiles) forget() error {
	if _, err := os.Stat(filepath.Join(f.dir, infoLedger)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := f.recall(); err != nil {
		return err
	}
	if err := f.prune(nil); err != nil {
		return err
	}
	return gone(filepath.Join(f.dir, infoLedger))
}

func gone(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget devices: %w", err)
	}
	return nil
}
