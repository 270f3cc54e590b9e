// Package conformance runs the same configurations through the reference CNI
// executables (containernetworking/plugins, pinned in tests/lab/programs) and
// through ours, each in a fresh host and pod, and compares what a user can see:
// results, links, addresses, routes, rules and kernel parameters.
//
// A difference that is meant stands in the case, with its reason; one that is
// listed and does not show is an error too, so the lists stay true. Cases that
// need drivers which the build machine's kernel may lack have the build tag lab.
//
// It has no product code.
package conformance
