// Package explain says why a pod has, or has not yet, the networks that it asks
// for. It walks the chain in the order in which things happen - annotation,
// definitions, injection, scheduling, daemon, devices, addresses, attachments -
// and says what to do about the first link that does not hold.
//
// It is pure: all that it looks at is in Facts, and what is not known there is
// said to be unknown, never to be well.
//
// Invariants:
//
//  1. The verdict is about the first link that fails; without one, about the first
//     that is waited for.
//  2. Every link that fails comes with something to do.
//
// Pod may be called concurrently.
package explain
