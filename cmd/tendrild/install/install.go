package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ConfName is the configuration's file name: it sorts before every other, so
// that the runtime takes it.
const ConfName = "00-tendril.conflist"

// ShimName is the name of the shim, and the plugin type that the configuration
// names.
const ShimName = "tendril"

// Own says whether a file in the configuration directory is Tendril's own.
func Own(name string) bool { return strings.HasPrefix(name, "00-tendril") }

// Shim copies the executable at source into binDir. It reports whether the file
// had to change.
func Shim(source, binDir string) (changed bool, err error) {
	data, err := os.ReadFile(source)
	if err != nil {
		return false, fmt.Errorf("read shim: %w", err)
	}
	changed, err = replace(filepath.Join(binDir, ShimName), data, 0o755)
	if err != nil {
		return false, fmt.Errorf("install shim: %w", err)
	}
	return changed, nil
}

// Settings are what the configuration tells the shim. Paths are as the host sees
// them.
type Settings struct {
	// Socket is where the daemon listens.
	Socket string
	// Spool is the directory for DELs that find no daemon; empty for none.
	Spool string
}

// Conf writes the configuration into confDir: a list of one plugin, the shim,
// with settings. It reports whether the file had to change.
func Conf(confDir string, settings Settings) (changed bool, err error) {
	data, err := json.MarshalIndent(conf{
		Name: "tendril",
		// The plain version is for runtimes that know no list of versions.
		CNIVersion:  "1.0.0",
		CNIVersions: []string{"0.4.0", "1.0.0", "1.1.0"},
		Plugins: []plugin{{Type: ShimName, Socket: settings.Socket, Spool: settings.Spool, Capabilities: map[string]bool{
			// What a default network may want of the runtime is handed through.
			"portMappings": true, "bandwidth": true,
		}}},
	}, "", "  ")
	if err != nil {
		return false, err
	}
	changed, err = replace(filepath.Join(confDir, ConfName), append(data, '\n'), 0o644)
	if err != nil {
		return false, fmt.Errorf("install CNI configuration: %w", err)
	}
	return changed, nil
}

type conf struct {
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"`
	Name        string   `json:"name"`
	Plugins     []plugin `json:"plugins"`
}

type plugin struct {
	Type         string          `json:"type"`
	Socket       string          `json:"socket"`
	Spool        string          `json:"spool"`
	Capabilities map[string]bool `json:"capabilities"`
}

// replace makes path hold data with mode, or leaves it as it was.
func replace(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return false, chmod(path, mode)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	// The dot and the suffix keep a runtime that lists the directory from
	// reading the file before it is whole.
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := writeSynced(part, data, mode); err != nil {
		return false, errors.Join(err, os.Remove(part))
	}
	return true, os.Rename(part, path)
}

// chmod gives path its mode. A file that has it is not touched: who watches its
// directory, the runtime and the guard among them, would be told of nothing.
func chmod(path string, mode fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() == mode {
		return err
	}
	return os.Chmod(path, mode)
}

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}
