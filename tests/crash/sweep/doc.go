// Package sweep kills the real daemon at every point at which it can be killed,
// starts it again, and requires the world before the call or after it (invariant
// 3 of ARCHITECTURE.md). Any driver's test can use it: a [Sweep] needs the
// networks of one pod and a function that prints what the kernel has.
//
// The daemon is package node in a process of its own, reached through its socket
// as the shim reaches it; only the API server is left out, because what a pod asks
// for is not what is tested here.
//
// Points are the steps of the journal ([Sweep.JournalSteps]) and every call by
// which the daemon may change the kernel ([Sweep.KernelCalls]): netlink messages,
// and files opened for writing below /sys and /proc/sys, or in a directory of
// address files. The latter need no hook
// in the code under test: the victim puts a seccomp filter on itself, and the
// kernel stops each of these calls before it is made (seccomp_unotify(2)).
//
// A TestMain of such a test calls [Main].
package sweep
