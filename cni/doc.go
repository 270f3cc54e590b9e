// Package cni turns one CNI call of the container runtime into the attachments
// of one pod and back: it owns [Attachment], the pure [Plan], the order of
// effects, and the small interfaces through which it reaches everything else.
// It knows no netlink, no Kubernetes client and no socket.
//
// Invariants, by their numbers in ARCHITECTURE.md:
//
//  1. An ADD succeeds only when every network that the pod asks for is attached
//     and observed.
//  2. DEL is the only undo: a failed ADD, a DEL and the recovery at start run
//     the same function over the same records, in reverse order. A record goes
//     only when its detach succeeded.
//  3. The intent of every attachment, with what it needs to be undone, is in the
//     journal before anything is touched. A daemon killed anywhere finds there
//     what to undo.
//  4. A device is in at most one record.
//  5. An address is handed out only by the transaction that records its owner.
//  10. Which definitions a pod may use is decided in one place, for every way in
//     which it can name one.
//
// What another network of the pod took away from an attachment, its default
// route, is not taken from its record: records say what a network gave, and what
// an interface has is worked out from all records of the pod.
//
// An Engine may be used by any number of goroutines. Calls for one container
// run one after the other; calls for different containers run side by side.
package cni
