//go:build unix

package deviceplugin

import (
	"io/fs"
	"syscall"
)

// inodeOf returns the device and the inode of a file.
func inodeOf(fi fs.FileInfo) (device, inode uint64) {
	st := fi.Sys().(*syscall.Stat_t)
	return uint64(st.Dev), uint64(st.Ino)
}
