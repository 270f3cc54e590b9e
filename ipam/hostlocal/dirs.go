package hostlocal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrElsewhere says that a directory is none that this process sees as the host
// does.
var ErrElsewhere = errors.New("not below a directory of the host's")

// Dirs are directories of the host that this process sees under their own paths, as
// a container does by its mounts. One that is not there is none: nobody makes it
// here, so a mount that was forgotten does not look like an empty node.
type Dirs []string

// Open returns the directory of network below dataDir, if all of its path is below
// one of d after symbolic links, which mean something else here than on the host
// where they lead outside. It need not be there yet. The error is ErrElsewhere, or
// what the disk said. Reserve of this Store takes the caller's word for it that an
// owner has no address yet.
func (d Dirs) Open(dataDir, network string) (*Store, error) {
	s := At(dataDir, network)
	s.recorded = true
	path, err := resolve(s.dir)
	if err != nil {
		return nil, fmt.Errorf("find address files of network %s: %w", network, err)
	}
	for _, dir := range d {
		root, err := filepath.EvalSymlinks(dir)
		if err == nil && (path == root || strings.HasPrefix(path, root+string(filepath.Separator))) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("find address files of network %s: %s: %w", network, path, ErrElsewhere)
}

// resolve follows the symbolic links of path, of which the end may not exist yet.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return resolved, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("follow %s: %w", path, ErrElsewhere) // a link to nothing
	}
	parent, name := filepath.Split(filepath.Clean(path))
	if name == "" {
		return "", err
	}
	if parent, err = resolve(filepath.Clean(parent)); err != nil {
		return "", err
	}
	return filepath.Join(parent, name), nil
}
