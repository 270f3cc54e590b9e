package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// aside is the suffix of configurations that Displace set aside. The file is then
// none that a runtime reads.
const aside = ".before-tendril"

// displaced are the configurations that Displace sets aside: those of the
// meta-plugin that Tendril takes over from. As long as one is there, the runtime
// may call that plugin, and Tendril's own is not the first.
func displaced(name string) bool {
	return name == "00-multus.conf" || name == "00-multus.conflist"
}

// Displace renames the configurations of Multus, so that the runtime calls
// Tendril instead; [Uninstall] renames them back. It returns the names.
func Displace(confDir string) ([]string, error) {
	entries, err := os.ReadDir(confDir)
	if err != nil {
		return nil, fmt.Errorf("displace CNI configurations: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !displaced(e.Name()) {
			continue
		}
		path := filepath.Join(confDir, e.Name())
		if err := os.Rename(path, path+aside); err != nil {
			return names, fmt.Errorf("displace CNI configuration: %w", err)
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// Uninstall takes Tendril's files off the host: first its configuration, so that
// the runtime has the default network's own again (and what Displace had set
// aside), then the shim. What is absent is done. It returns what it removed or
// put back, in words.
func Uninstall(confDir, binDir string) (did []string, err error) {
	for _, path := range []string{filepath.Join(confDir, ConfName), filepath.Join(confDir, "."+ConfName+".new")} {
		did, err = remove(did, path)
		if err != nil {
			return did, err
		}
	}
	entries, err := os.ReadDir(confDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return did, fmt.Errorf("restore CNI configuration: %w", err)
	}
	for _, e := range entries {
		name, ours := strings.CutSuffix(e.Name(), aside)
		if !ours || !displaced(name) {
			continue
		}
		path := filepath.Join(confDir, name)
		// Link and not rename: what is at its old place by now is newer.
		if err := os.Link(path+aside, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return did, fmt.Errorf("restore CNI configuration: %w", err)
		}
		if err := os.Remove(path + aside); err != nil {
			return did, fmt.Errorf("restore CNI configuration: %w", err)
		}
		did = append(did, "restored "+path)
	}
	for _, name := range []string{ShimName, "." + ShimName + ".new"} {
		if did, err = remove(did, filepath.Join(binDir, name)); err != nil {
			return did, err
		}
	}
	return did, nil
}

// ownDir is what a directory that only Tendril uses is called.
const ownDir = "tendril"

// RemoveDirs removes directories of Tendril's own with all that is in them, and
// returns what it removed, in words. One of another name than tendril stays: it may
// have been chosen to be shared.
func RemoveDirs(dirs ...string) (did []string, err error) {
	for _, dir := range dirs {
		if _, err := os.Lstat(dir); filepath.Base(dir) != ownDir || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return did, fmt.Errorf("uninstall: %w", err)
		}
		did = append(did, "removed "+dir)
	}
	return did, nil
}

func remove(did []string, path string) ([]string, error) {
	err := os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return did, nil
	case err != nil:
		return did, fmt.Errorf("uninstall: %w", err)
	}
	return append(did, "removed "+path), nil
}
