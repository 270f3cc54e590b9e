// Package borrowed owns links that are the host's and serve a pod for a while: a
// host device, the slaves of a bond. It lends them and takes them back.
//
// Invariants:
//
//  1. The mark is on the link before it moves. Whoever has the mark finds the
//     link: in the pod, or on the host where the kernel put it when the pod's
//     namespace went.
//  2. Return touches no link with another attachment's mark, and one without any
//     only if it is known otherwise: a pod may mark its interface as it likes. It is
//     done when the link is on the host as Note saw it, or is gone from the machine.
//
// There is no state; all functions may be called concurrently.
package borrowed
