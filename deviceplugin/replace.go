package deviceplugin

import (
	"bytes"
	"os"
	"path/filepath"
)

// replaceFile puts content in place whole, readable for all: a reader sees the
// old file or the new one. A file that has the content is left alone.
func replaceFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	// The runtime reads every .json and .yaml below its CDI directories.
	temp := filepath.Join(dir, "."+name+".tmp")
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(temp, content, 0o444); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
