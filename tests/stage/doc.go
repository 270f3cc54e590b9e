// Package stage is a lab cluster with Tendril installed the way a person
// installs it: CRDs, manifests, the image. The demo and the cluster tests play
// on it.
//
// Invariants:
//
//  1. Up returns when the daemon is ready on every node and the nodes offer
//     their VFs.
//  2. Nothing is applied that is not in deployment/, but for the address of the
//     API server, which a cluster without kube-proxy has to be told.
package stage
