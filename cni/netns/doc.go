// Package netns owns network namespaces and the links inside them: opening and
// identifying a namespace, running code in one, netlink sockets that live in
// one, and making, moving, configuring, finding and deleting links. It knows
// no plugin, no configuration and no journal.
//
// Invariants:
//
//  1. No thread of the process stays in a foreign namespace. Code that must run
//     inside one does so on a locked thread of its own, and a thread that cannot
//     return is never unlocked, so it dies with its goroutine.
//  2. A link is deleted only by its index, after its kind and its owner were
//     read from the kernel in the same call. A name alone never deletes.
//  3. A link made here is complete or recognisable: it is created with its final
//     name, in the link group Group, and its mark of ownership is part of the
//     same system call, so that a process killed at any moment leaves nothing
//     that Find does not know.
//  4. Nothing here undoes a failure. What a failed Create left is what Remove
//     removes: there is one way back.
//  5. What is absent is removed: Remove of a link that is not there succeeds.
//  6. What is removed was seen to be gone. Only the kernel's own tidying up may
//     still go on, on a thread that ends with the kernel's answer and that holds
//     the namespace until then; there are 64 of these at most.
//
// All functions may be called concurrently. A Conn may be shared, and its calls
// are then served one after the other; a Conn for each caller costs a few
// microseconds and is the usual way. Up to four sockets of the daemon's own
// namespace outlive their Conn and serve the next one.
package netns
