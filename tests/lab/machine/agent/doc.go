// Package agent owns what is said between a lab machine's agent
// (tests/lab/guestd) and the host: the request for a process, and the frames
// that carry its two output streams back over one connection.
//
// Invariants:
//
//  1. Output is delivered as it is produced, in the order in which the process
//     wrote it, and standard output is never mixed with standard error.
//  2. A reply whose trailer has no exit code is a lost machine, never success.
package agent
