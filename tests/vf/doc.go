// Package vf plays everything about VFs that needs a real kubelet: pools that
// follow configuration and hardware while pods hold devices, VF policies, the
// daemon restarted with every VF in a pod, and device nodes in containers. Its
// test carries the build tag cluster; all scenes play on one node.
package vf
