// Package webhook decides admission: a review comes in, a response goes out. It
// puts together what its parts decide: inject adds to pods, validate judges
// every kind.
//
// The package does no I/O of its own. What it needs of the cluster it asks of
// Cluster, which answers from memory, save for a definition that nobody has seen
// yet. A Reviewer's methods may be called concurrently.
//
// Invariants:
//
//  1. Every review has an answer: allowed, with a patch perhaps, or denied with
//     a reason for the one who made the object. Nothing in a review's bytes leads
//     to a panic or to an error of ours.
//  2. A denial is one line per finding, each with its code (validate).
//  3. A patch type is never without a patch.
//  4. When the cluster cannot be asked, a pod that asks for networks is denied
//     with the cause, never let through (invariant 1 of the design).
package webhook
