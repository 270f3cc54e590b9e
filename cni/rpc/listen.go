package rpc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// Listen makes the socket at path and returns its listener. The socket appears
// under its name by one rename, with mode 0600: a shim finds the old socket or
// the new one, never none, and a stale one of a daemon that died is replaced.
// The directory is made with mode 0700; one that exists is left as it is, but
// refused if its group or others may write there, since they could then put
// their own socket in this one's place.
//
// Closing the listener leaves the file: connecting to it is refused by the
// kernel, which a shim takes as "the daemon restarts", and a successor may have
// put its own socket there already.
func Listen(path string) (net.Listener, error) {
	ln, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

func listen(path string) (net.Listener, error) {
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// The name is of this process, so that two daemons in one directory do not
	// take each other's, and one that crashed here leaves nothing that lasts.
	temp := filepath.Join(filepath.Dir(path), "."+strconv.Itoa(os.Getpid())+".sock")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close(), os.Remove(temp))
	}
	return ln, nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("directory %s: mode %04o is not allowed; allowed: no write permission for group and others, best 0700", dir, mode)
	}
	return nil
}
