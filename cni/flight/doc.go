// Package flight is the node's flight recorder: what the last calls did, step by
// step, and what a pod's network namespace looked like at the moment in which one
// of them failed. It owns these traces, their file, and the log handler that puts
// a call's id into every line. It decides nothing, and nobody depends on what it
// has: a call goes on whatever becomes of its trace.
//
// Invariants:
//
//  1. Memory is bounded in bytes, by [Options], whatever the calls bring: long
//     texts are cut, and old traces go first. Failures are kept apart, so that a
//     busy node does not forget the one that somebody will ask about.
//  2. A failure that repeats itself is one trace with a count.
//  3. The last failures survive the process, in one small file that is replaced as
//     a whole, off the path of calls. A file that cannot be read is no reason not
//     to start.
//  4. The namespace is only read, before the undo changes it, and only for a call
//     that failed.
//
// A Recorder may be used by any number of goroutines; a cni.Flight by the one that
// began it.
package flight
