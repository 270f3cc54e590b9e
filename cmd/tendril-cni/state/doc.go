// Package state keeps the records of the executables on disk, one file for each
// attachment, and for each plugin of a chain that changes it: what the journal is to
// the daemon.
//
// Invariants:
//
//  1. A record is in its file, whole, when Put returns: it is written beside it
//     and renamed, so that a process killed anywhere leaves the old or the new
//     one. It is not synced: what it describes does not outlive a boot either.
//  2. A record of an earlier boot is returned as such: the kernel has forgotten
//     what it describes. One that a power failure cut short counts as absent.
//  3. A device is claimed by at most one record (invariant 4 of the design):
//     Put looks at all records under the directory's lock.
//
// Processes may use one directory at the same time.
package state
