// Package dhcp gets addresses for pods from the network's own DHCP servers (RFC
// 2131), keeps the leases while the pods live, and gives them back. It speaks for
// an interface that exists in the pod, and configures none: what a lease says is
// its caller's to apply.
//
// Invariants:
//
//  1. A Lease is a value that says everything about itself: it can be stored,
//     renewed and released by another process than the one that got it.
//  2. Every exchange asks for broadcast answers, since interfaces that share a
//     hardware address (ipvlan) never see unicast to an address they do not have
//     yet, and names the client by container, network and interface.
//  3. A kept lease has one goroutine, which ends with Drop, with the pod's
//     interface or with Close.
//
// A Keeper may be used by any number of goroutines; the functions keep no state.
package dhcp
