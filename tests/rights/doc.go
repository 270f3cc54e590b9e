// Package rights proves against a real API server what Tendril's service accounts
// may and may not: the manifests are applied as they are, and tokens are made as a
// kubelet makes them, for a pod of a node.
package rights
