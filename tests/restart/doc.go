// Package restart plays, on a real kubelet and containerd, what a node goes
// through: the daemon restarted under a storm of pods, away while pods are
// deleted, networks changed while their pod runs, the CNI configuration taken
// away by another agent, and a power cut. Its tests carry the build tag cluster.
package restart
