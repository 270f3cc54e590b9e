// Package spool owns the DELs that no daemon was there to serve: one file each
// in a directory on disk, written by the shim and read by the daemon.
//
// Why a DEL may be answered before it is done: it cannot be refused in earnest.
// Without a spool the runtime repeats it until the daemon is back, and the pod
// stays Terminating; a runtime that gives up, or is restarted, forgets it, and an
// address or a VF is lost. A spooled DEL is neither.
//
// Invariants:
//
//  1. Put returns nil only when the file, whole, and its name are on the disk:
//     written beside, fsynced, renamed, directory fsynced. It survives a power
//     cut.
//  2. The directory is the daemon's promise to read it: [Open] makes it, Put
//     never does. Where no daemon ever ran, or none will, Put fails.
//  3. No DEL is left behind. The daemon reads the directory, serves its socket,
//     and reads again; a shim writes, and then looks for a daemon once more.
//     Whichever comes first, one of the two finds the other.
//  4. The directory is bounded: at most [MaxEntries] files of [MaxSize] bytes.
//  5. One call has one file: a repeated DEL replaces the earlier one.
//
// It imports the standard library and cni/rpc alone, since the shim links it.
// All functions may be called concurrently, in any number of processes; one
// daemon at a time owns a Spool.
package spool
