// Package deviceplugin advertises SR-IOV functions to the kubelet as extended
// resources: it reads the configuration of the SR-IOV network device plugin,
// sorts the functions of an inventory snapshot into pools, and serves every
// pool over the kubelet's device plugin API v1beta1.
//
// It owns the grammar of config.json (Parse), the claiming rules (Pools), the
// answer to Allocate (Pool.Response), the choice between free devices
// (Pool.Prefer), the sockets under the kubelet's directory and the device-info
// files of the network plumbing working group's specification. It knows
// nothing of pods, CNI, addresses or the API server.
//
// Invariants:
//
//  1. A function is in at most one pool of one configuration.
//  2. Pools, Response and Prefer are pure: same arguments, same result, no I/O.
//  3. Allocate takes one immutable pool from an atomic pointer. It waits for
//     nobody and writes to no device; what it hands out was known and healthy
//     in that pool, or it hands out nothing.
//  4. A configured resource is registered even with no device in it, so that
//     the kubelet never keeps a number that has stopped being true.
//  5. Nothing is registered before the first inventory snapshot, so that a
//     restart is not seen as a node without devices.
//  6. A socket is removed only by the process that made it.
//  7. A physical function with VFs, or one that the host itself uses, is in no
//     pool (design invariant 7).
//
// A Pool and a Config are immutable and may be shared. All methods of Plugin
// may be called concurrently; Run is called once.
package deviceplugin
