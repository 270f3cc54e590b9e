// Package deployment holds what is applied to a cluster: custom resource
// definitions (crds), manifests, and example pods. It has no code; tests apply
// every file of it.
package deployment
