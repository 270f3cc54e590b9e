// Package vfpolicy plays VFPolicy on a real cluster: what a policy makes of the
// VFs of a real PF, and what it does not dare to do to one that a pod has. Its
// test carries the build tag cluster.
package vfpolicy
