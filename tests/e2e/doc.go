// Package e2e plays the main path and its failures on a real cluster: real
// kubelets start real pods on two machines with real VFs. Its tests carry the
// build tag cluster and share one stage.
package e2e
