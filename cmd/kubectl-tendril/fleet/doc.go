// Package fleet is a cluster with Tendril on it, as a person's kubeconfig shows
// it: clients of the API server, the daemons by their nodes, and what each daemon
// answers (package cni/inspect), asked by exec in the daemon's own pod.
//
// Invariants:
//
//  1. Nothing here writes to the cluster.
//  2. A daemon that cannot be asked is an error of its node alone; the other nodes
//     are still told about.
//  3. Secrets are never read.
//
// A Fleet may be used concurrently.
package fleet
