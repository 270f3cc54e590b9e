// Package deployment holds what is applied to a cluster: the chart (chart/tendril),
// the plain manifests that are made from it (manifests), custom resource
// definitions (crds, which the chart links to), and examples. It has no code; tests
// apply every file of it.
package deployment
