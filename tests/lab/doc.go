// Package lab gives a process a small world of its own: fresh network, mount
// and process-id namespaces (and a user namespace when it is not root) with a
// loopback, the management bridge that machines and the control plane share,
// and an empty /run.
//
// Invariants:
//
//  1. Nothing outlives the process that entered: every process started in the
//     lab dies with the lab's first process, which the kernel kills with the
//     one outside, and interfaces and mounts go with the namespaces.
//  2. The world outside is not changed and cannot be reached from inside,
//     except through the file system.
//  3. To its caller the process outside behaves as the one inside: arguments,
//     environment, working directory and standard streams are handed in, signals
//     are passed on, and the exit code comes back.
//
// A program enters at the very start of main or TestMain, before it has started
// any goroutine that matters: what ran before Enter runs twice.
package lab
