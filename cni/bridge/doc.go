// Package bridge attaches pods to a Linux bridge on the host by a veth pair,
// makes the bridge where it is missing, and gives it the gateway's address. It
// takes the configuration of the reference plugin of that name.
//
// Invariants:
//
//  1. The pair is made from inside the pod by one message, each end under its
//     final name and in its final namespace.
//  2. The name of the host's end follows from the attachment alone, so it is
//     found, and known to be ours, without the pod and without any note.
//  3. Detach needs the record only. It leaves the bridge and its addresses, which
//     belong to all pods.
//  4. What is asked for is done or refused. ipMasq and macspoofchk are rules in
//     nftables tables of our own, each with its port's name, and go with the port.
//
// A Driver has no state; all its methods may be called concurrently.
package bridge
