// Package deviceplugin plays the device plugin against a real kubelet: what the
// node offers while functions, configuration, kubelet and daemon change under
// it. Its tests carry the build tag cluster and share one stage of one node.
package deviceplugin
