// Package ipvlan attaches pods to a host's link by ipvlan: several stacks share
// the master's hardware address and are told apart by their IP addresses. It
// takes the configuration of the reference plugin of that name.
//
// Invariants:
//
//  1. The link is made in the pod's namespace under its final name; nothing ever
//     appears on the host.
//  2. Detach needs the record and the pod's namespace only, never the master.
//  3. The mode of a master that carries children is never changed: the kernel
//     keeps one mode for all of them, and a new child in another mode would
//     change the older pods' networks. A mismatch that can be seen is refused.
//
// A Driver has no state; all its methods may be called concurrently.
package ipvlan
