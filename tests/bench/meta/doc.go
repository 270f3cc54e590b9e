// Command meta measures Tendril beside Multus v4.3.0, thick, with the reference
// plugins: what a container runtime waits for, what the node's processors do, how
// often the API server is asked, and what the daemons take of memory: what of them is
// resident, and what a control group is charged for each, where the machine has one
// to give (root; either version).
// docs/benchmarks.md says what the lines mean.
//
// Both stand on one machine, with one API server, the same definitions, and the
// reference bridge and host-local as default network. Multus is built from its
// pinned module, runs with what its manifest configures but for its log, which is
// quieter here, and has its files on a tmpfs, where they are fastest.
//
// Invariants:
//
//  1. What was timed was done: after each ADD the pod has every interface, up and
//     with an address, and network-status names them; after each DEL it has none,
//     and in the end the reference has all its addresses back.
//  2. Both sides know their pods before they are asked for them: the caches of
//     both are warm.
//  3. Calls to the API server are counted by a proxy, with daemons that were
//     started behind it; what is timed has none.
//  4. Speed is no test: the exit code is 0 when everything was measured.
//
// It is one goroutine, but for the calls of a burst and the servers that count or
// answer.
package main
