// Package rpc is the conversation between the CNI shim, which the container
// runtime starts, and the daemon, over a unix stream socket. It owns the frames,
// both ends of the conversation, and the way in which the shim runs plugin
// executables for the daemon. It knows neither CNI configuration nor pods.
//
// One connection carries one CNI call. The shim sends a [Request], with the
// pod's network namespace as an open file descriptor beside its first byte; the
// daemon may then ask, one at a time, for executables to be run ([ExecRequest])
// in the place where the shim stands: the host's mount namespace and the
// runtime's control group; and ends with a [Reply].
//
// Every frame is eight bytes, "Td", the protocol's version, the frame's kind and
// the length of the body as a big-endian number of 32 bits, and a JSON body.
//
// Invariants:
//
//  1. A frame longer than [MaxFrame], of another version or of no known kind ends
//     the conversation with an error that says so; its body is never read.
//  2. Only root and the daemon's own user are heard ([PeerError]).
//  3. A plugin process does not outlive the conversation: the deadline, a lost
//     connection and the death of the shim kill it with its process group, and
//     the conversation ends only after it was waited for.
//  4. At most one plugin runs for a call at any time, also after a cancelled one.
//  5. The context of a call ends before the shim's own deadline, so that there
//     is time to undo and to answer; and as soon as the shim is gone.
//  6. Serve returns only when every conversation has ended.
//
// The package imports the standard library alone: the shim links it. [Serve],
// [Client.Call] and [Call.Exec] may be called concurrently.
package rpc
