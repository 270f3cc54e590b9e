// Package vftest makes sysfs trees for tests, out of txtar archives, and has a
// Machine, a stateful stand-in for the kernel that takes steps of VF policies.
//
// Invariants:
//
//  1. A tree lies in the test's own temporary directory and ends with the test.
//  2. Paths that would leave the tree fail the test instead of being written.
//
// Each call builds a tree of its own, so tests may run in parallel. All methods of
// a Machine may be called concurrently.
package vftest
