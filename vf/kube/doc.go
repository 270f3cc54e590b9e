// Package kube is the API server's side of VFs: the VFPolicy objects that are for
// this node go in, one NodeVFState comes out, and the node's taint "VFs are not
// ready yet" goes when they are. It knows neither sysfs nor netlink nor devices.
//
// Invariants:
//
//  1. A policy that v1alpha1.Validate refuses is never handed on; the refusal is
//     in the node's state, under the policy's name.
//  2. Policies are handed on only once policies and the node's labels are both
//     known: a start, or an API server that is away, is not a node without
//     policies. What was known last holds.
//  3. The newest state is what is written, at most once a second; writing never
//     delays who reports, and a failing write is tried again.
//  4. Of the Node object nothing is ever changed but the one taint.
//  5. A policy is said to be ready only by a state that was made for it as it is.
//  6. A Node object that was deleted and made again is a new one: its taint is
//     looked after anew, and the NodeVFState becomes its own. A NodeVFState that is
//     gone is made again within minutes.
//
// All methods may be called concurrently; Run is called once.
package kube
