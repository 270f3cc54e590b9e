// Package tuning changes an interface that a driver has made: kernel parameters,
// MAC, MTU, promiscuous and all-multicast mode, queue length. It takes the
// configuration of the reference plugin of that name, as a later part of a chain.
//
// Invariants:
//
//  1. Prior reads everything that Attach changes and that exists by then; Detach
//     gives exactly that back, kernel parameters included. What came with the
//     interface goes with it.
//  2. Attach and Detach may be repeated.
//  3. No parameter outside /proc/sys/net of the pod is written.
//
// A Modifier has no state; all its methods may be called concurrently for
// different pods.
package tuning
