// Package probe asks a link whether somebody has an address before it is used:
// ARP probes (RFC 5227) for IPv4, neighbour solicitations from the unspecified
// address (RFC 4862, section 5.4) for IPv6.
//
// Frame and Parse are pure. Conflicts works on the network namespace of the
// calling thread, changes nothing in it, and may be called concurrently.
//
// Invariants:
//
//  1. Only another MAC is a conflict: what the link itself sent, or a twin with
//     the same MAC (ipvlan, a VF's representor), is none. Nor is a frame of a VLAN
//     that the link carries: that is another network.
//  2. Silence for the whole wait is the only proof of absence; a socket that
//     fails is an error, never "no conflict".
package probe
