// Package sbr makes a pod answer over the interface that a packet came in by:
// for each address of the interface a rule "from it" and a routing table of its
// own. It takes the configuration of the reference plugin of that name, as a
// later part of a chain.
//
// Invariants:
//
//  1. Rules made here carry the routing protocol number Protocol, and only such
//     rules are ever deleted.
//  2. Detach needs the attachment's addresses only: it works when the interface
//     is gone. What is absent is done.
//
// A Modifier may be used by many goroutines; its calls for one pod must come one
// after the other, since they choose routing tables.
package sbr
