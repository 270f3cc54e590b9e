// Package crash plays the sweeps of package sweep on the kinds of network that
// Tendril has, and what else may befall a node: a journal that is cut off, a disk
// that is full.
//
// The macvlan sweeps run in namespaces of this test's own; the VF sweeps carry the
// build tag lab and run in the lab's machine.
package crash
