// Command vf measures what Tendril does with many VFs: the inventory of 8 NICs
// with 128 VFs each, how long a change of one takes until the kubelet is told, and
// Allocate with 1,000 devices. docs/benchmarks.md says what the lines mean.
//
// The NICs are a tree of files that lies over /sys of the lab's namespaces, where
// sriovnet looks; ours gets the same tree as its root. Everything runs in this
// process: inventory, device plugin, and the kubelet's side of its sockets.
//
// Invariants:
//
//  1. What was timed was done: each scan has every VF, each list the change, each
//     answer its device.
//  2. Speed is no test: the exit code is 0 when everything was measured.
//  3. Nothing outside of the lab's namespaces is changed, but for a temporary
//     directory and the file in results/.
//
// It is one goroutine, but for those of what it measures.
package main
