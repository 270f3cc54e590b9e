// Package delegate runs networks that Tendril does not serve itself: chains of
// foreign CNI plugins, through libcni, with the executables started by the shim
// that made the call. It also finds those networks on disk: the cluster's
// default network, and networks that a definition only names.
//
// Invariants, beside those of the design (docs: CNI specification 1.1, section 4):
//
//  1. A chain is run in its order for ADD, with each plugin's result given to the
//     next one, and backwards for DEL, with the final result of ADD given to all.
//  2. DEL depends on the caller's arguments alone: the result it is given counts
//     more than libcni's cache. The cache only bridges a crash between the end of
//     the plugins' ADD and the caller's record of it.
//  3. Results leave this package in version 1.1.0 and reach each plugin in the
//     version of its network.
//  4. Tendril and Multus are never delegated to: they would call back here.
//  5. Nothing of the daemon's own environment reaches a plugin.
//
// A Chains may be used concurrently for different attachments; calls for one
// attachment have to come one after the other, which the engine's sandbox lock
// sees to.
package delegate
