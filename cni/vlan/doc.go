// Package vlan attaches pods to one VLAN of a host's link: what the pod sends
// leaves the link with the VLAN's tag. It takes the configuration of the
// reference plugin of that name.
//
// Invariants:
//
//  1. The link is made in the pod's namespace under its final name; nothing ever
//     appears on the host.
//  2. Detach needs the record and the pod's namespace only, never the master.
//
// A Driver has no state; all its methods may be called concurrently.
package vlan
