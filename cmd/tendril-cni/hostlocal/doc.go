// Package hostlocal keeps addresses in files, as the reference host-local does
// and byte for byte: dataDir/<network>/<address> holds the container's ID and the
// interface's name, last_reserved_ip.<set> the address handed out last, and lock
// is locked (flock) while anything changes. A node can change from one to the
// other and back.
//
// Invariants:
//
//  1. An address has one owner: its file is made with O_EXCL, under the lock.
//  2. A failed Reserve has given back what it took.
//
// Processes may use one directory at the same time.
package hostlocal
