// Package v1alpha1 holds the API objects of VFs in group tendril.dev: VFPolicy,
// which people write, and NodeVFState, which each node's daemon writes.
//
// It owns their Go types, what is valid beyond the schema of deployment/crds
// (Validate), and their translation to the values of package vf. It makes no
// request.
//
// Invariants:
//
//  1. Validate is all that decides whether a policy is used: daemon, webhook and
//     command line call it, and what it accepts Policy translates.
//  2. A refused policy is refused whole, with the field and what it may hold.
//  3. Fields are added within a version, and neither renamed nor given another
//     meaning.
//
// All functions are pure and may be called concurrently.
package v1alpha1
