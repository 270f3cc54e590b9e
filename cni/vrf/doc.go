// Package vrf puts a pod's interface into a VRF (virtual routing and forwarding,
// kernel doc networking/vrf), which it makes where it is missing. It takes the
// configuration of the reference plugin of that name, as a later part of a chain.
//
// Invariants:
//
//  1. The interface keeps its addresses and its routes: what the kernel drops on
//     the way in is put back, in the VRF's table.
//  2. Detach needs the configuration and the pod only, and works when the
//     interface is gone. A VRF goes with its last member, if it was made here.
//
// A Modifier may be used by many goroutines; its calls for one pod must come one
// after the other, since they choose routing tables.
package vrf
