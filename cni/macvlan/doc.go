// Package macvlan attaches pods to a host's link by macvlan, the kernel's way of
// giving one Ethernet link several hardware addresses. It takes the
// configuration of the reference plugin of that name.
//
// Invariants:
//
//  1. The link is made in the pod's namespace under its final name; nothing ever
//     appears on the host.
//  2. Detach needs the record and the pod's namespace only, never the master.
//  3. Nothing asked for is dropped: what this kernel, master or mode cannot do is
//     refused (invariant 9 of the design).
//
// A Driver has no state; all its methods may be called concurrently.
package macvlan
