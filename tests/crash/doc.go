// Package crash kills the real daemon with SIGKILL at every step of its journal
// and looks at what the kernel has then (invariant 3 of ARCHITECTURE.md). The
// daemon is package node in a process of its own, reached through its socket as
// the shim reaches it; only the API server is left out, because what a pod asks
// for is not what is tested here.
//
// The macvlan sweep runs in namespaces of this test's own; the VF sweep carries
// the build tag lab and runs in the lab's machine.
package crash
