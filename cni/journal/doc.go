// Package journal owns the only durable state of a node: one bbolt file on the
// run directory's tmpfs, and its write-behind copy on disk.
//
// It stores records as bytes, keyed by container and interface, plus named
// buckets that other domains use inside the same transaction. It does not know
// what a record means.
//
// Invariants:
//
//  1. A transaction is wholly in the journal or not at all, however the process
//     ends. The tmpfs outlives the process, so no fsync is made on the hot path.
//  2. The copy is a complete earlier state of the journal, never a mixture: it
//     is written beside, fsynced and renamed. It lags by [CopyDelay] at most
//     while the disk takes writes.
//  3. The journal says in which boot it was last declared valid ([Tx.Boot]);
//     what it describes does not outlive that boot.
//
// A Journal may be used by any number of goroutines: bbolt serialises writers
// and gives readers a consistent view. One process at a time may have a journal
// open; the file lock says so to the second.
package journal
