// Package node is tendrild without its flags: it wires the journal, the engine,
// the drivers, the caches, the device plugin and the socket into one run group,
// and owns nothing but that wiring.
//
// Invariants:
//
//  1. The socket is served only after the caches are filled and the recovery is
//     done, and the CNI configuration is written only after that: whoever can
//     call gets an answer from a complete view.
//  2. What is owed is done first: spooled DELs, and the sandboxes of a Multus that
//     Tendril takes over from, come before the socket is served; what needs a
//     plugin waits for a call of the runtime, and is on disk until it is done.
//  3. Every goroutine belongs to the run group of [Run] and ends with it.
//
// Run may be called once per process and directory.
package node
