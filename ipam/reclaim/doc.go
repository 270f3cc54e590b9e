// Package reclaim gives back to everybody the addresses of nodes that are gone,
// and those of claims that no longer exist. It runs in one controller at a time,
// which its caller elects; two at once would do double work and no harm.
//
// Invariants:
//
//  1. A node is gone only when a person or the cloud said so: its Node object is
//     deleted or has another uid, it has the taint
//     node.kubernetes.io/out-of-service, or an operator ordered it with the
//     annotation tendril.dev/reclaim-addresses. NotReady is never a reason. What
//     says so is read by quorum right before it is acted on.
//  2. An address that is reclaimed goes into quarantine first, and is suspect
//     after it: a node that is alive after all takes back what it uses.
//  3. Every change is an update on condition of the resourceVersion that was read.
//
// A Reclaimer is used by one goroutine at a time.
package reclaim
