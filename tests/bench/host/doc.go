// Package host is the machine that the benchmarks measure on: a wire, pods'
// network namespaces, the calls of a container runtime, and the daemons that
// answer them, with a control group each if so wanted. It lives inside of a lab
// (package lab).
//
// Invariants:
//
//  1. A call is timed from before the fork to the last byte of the answer, by
//     libcni's own code.
//  2. Nothing that a namespace or a link costs the kernel when it is taken down
//     falls into anybody's time: both stay until Close.
//
// Call and Await may be used concurrently, all else by one goroutine.
package host
