// Package inject decides what is added to a pod that asks for networks: the
// resources of its networks, node selectors, the podnetinfo volume, and the
// annotations that the operator injects by label. Its outcome is that of the
// network resources injector v1.9 for everything that one documents.
//
// It is pure: no I/O, no clock, no globals that change. Everything here may be
// called concurrently.
//
// Invariants:
//
//  1. The effective annotations are made first; everything else follows from
//     them.
//  2. Plan over its own outcome has an empty patch: what was injected is recorded
//     in the pod (InjectedAnnotation) and counted once. With more networks than
//     before, the difference is added.
//  3. No patch without a reason: a pod that needs nothing gets none.
//  4. Refused is only what cannot be placed: every error is a refusal.Refusal
//     without an object.
package inject
