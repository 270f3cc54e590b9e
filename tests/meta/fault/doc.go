// Package fault is an API server that misbehaves: a proxy in front of a real one
// that can be away, be slow, answer with errors, and commit a write without
// saying so.
//
// Invariants:
//
//  1. Without a fault set, clients see what the server behind sees, watches
//     included.
//  2. A fault holds for the requests that come after it was set. Away alone also
//     ends those that are under way.
//  3. Every request that was not refused by Away is counted.
//
// A Proxy may be used concurrently.
package fault
