// Command bench is `make bench`: Tendril beside what it replaces and beside what
// the kernel itself takes, each number a ratio of two medians that were measured
// by turns in one run (package contest). docs/benchmarks.md says what the lines
// mean; results/ has every sample of the runs that were kept.
//
// Nothing of Tendril is left out or replaced: the shim and the daemon are the
// built executables, and the API server is a real one. The reference plugins are
// built from their pinned module and executed by libcni's own code, as the shim
// is.
//
// Invariants:
//
//  1. What was timed was done: the link and its address are looked at after each
//     ADD, and the absence of the link after each DEL, outside of the time.
//  2. Speed is no test: the exit code is 0 when everything was measured, however
//     slow it was, and not 0 when anything could not be measured.
//  3. Nothing outside of the lab's namespaces is changed (package lab), but for
//     a temporary directory and the file in results/.
//
// It is one goroutine beside those of the server that the shim alone is measured
// against.
package main
