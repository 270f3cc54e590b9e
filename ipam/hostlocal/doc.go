// Package hostlocal keeps addresses in files, as the reference host-local does
// and byte for byte: dataDir/<network>/<address> holds the container's ID and the
// interface's name, last_reserved_ip.<set> the address handed out last, and lock
// is locked (flock) while anything changes. A node can change from one to the
// other and back, and both can be at work at once.
//
// Invariants:
//
//  1. An address has one owner: its file is made with O_EXCL, under the lock.
//  2. A failed Reserve has given back what it took.
//  3. A process that died half way leaks no address: a file without an owner is
//     nobody's for whoever has the lock.
//
// A Store is a path: any number of goroutines and processes may use one directory
// at the same time.
package hostlocal
