// Package stacked owns what links that ride on another one (macvlan, ipvlan)
// have in common: the choice and the check of the parent, the making in the pod
// and the removal from it, and the refusals that name the parent and what else
// uses it. It knows the parts of an attachment but no driver's configuration.
//
// Invariants:
//
//  1. The parent is chosen once, in Prior, and recorded; removal needs nothing of
//     the host, so it works when the parent, its route or its driver is gone.
//
//  2. Every answer of the kernel that an operator can act on is a Refusal with
//     the parent, the cause, and where it can be read, who causes it.
//
//  3. Sweep is a saving and never the undo: what it deletes is what Detach of the
//     same records would.
//
//  4. A Watcher changes nothing itself. It tells each change of a parent once, and
//     has its owner repair what can be repaired until that succeeds.
//
// A Child is a value; all functions may be called concurrently. A Watcher runs
// once.
package stacked
