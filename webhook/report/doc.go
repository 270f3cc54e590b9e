// Package report is what a node's daemon tells the webhooks of its node: four
// annotations of the Node object, and what stands in them. The daemon writes
// them, admission and lint read them.
//
// It is pure, and everything here may be called concurrently.
//
// Invariants:
//
//  1. Parse of what Annotations returns is the same Node.
//  2. An annotation that is absent or cannot be read is a fact that is not known;
//     one that is empty is known to be nothing.
package report
