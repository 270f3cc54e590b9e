// Package loan lets work that no runtime asked for run plugin executables all the
// same: in the place of a runtime that called for something else. A network of a
// foreign plugin can only be attached and detached in the runtime's own context
// (its mount namespace, its control group), and the way there is a shim that
// waits for an answer. Runtimes call often enough: for every pod, and those of
// CNI 1.1 ask for STATUS every few seconds.
//
// Invariants:
//
//  1. Work runs inside Lend, on the goroutine of the call that lends, and before
//     that call's own work: it holds no lock of the engine then, and a DEL that
//     is owed comes before an ADD that may need its address.
//  2. The runner is not used after Lend returned.
//  3. Work begins within a bounded part of a call's time, and ends with the call;
//     what is not served waits for the next call.
//
// A Desk may be used by any number of goroutines.
package loan
