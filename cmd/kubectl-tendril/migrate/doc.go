// Package migrate translates the objects of other network stacks into Tendril's:
// the SR-IOV operator's policies and networks, the configurations of the SR-IOV
// device plugin and of Multus. What runs unchanged (definitions, pods, annotations,
// whereabouts' ranges) is left alone, and said to be.
//
// It is pure: objects in, objects and notes out.
//
// Invariants:
//
//  1. What Tendril does not have is a note that names object, field and value;
//     nothing of a source is dropped in silence.
//  2. What comes out was accepted by the validator of its own kind.
//  3. Resource names stay as pods ask for them.
//
// Plan may be called concurrently.
package migrate
