// Package deviceplugin advertises SR-IOV functions, accelerators and
// subfunctions to the kubelet as extended resources: it reads the configuration
// of the SR-IOV network device plugin, merges what policies add, sorts the
// devices of an inventory snapshot into pools, and serves every pool over the
// kubelet's device plugin API v1beta1.
//
// It owns the grammar of config.json (Parse) and the file that has it (File), the
// claiming rules (Pools), the answer to Allocate (Pool.Response), the choice
// between free devices (Pool.Prefer), the record of what was given out
// (Allocations), the sockets under the kubelet's directory, the device-info files
// of the network plumbing working group's specification and the CDI
// specification. It knows nothing of pods, CNI, addresses or the API server; who
// holds a device it is told in words.
//
// Invariants:
//
//  1. A device is in at most one pool of one configuration.
//  2. Pools, Response, Prefer and Merge are pure: same arguments, same result, no
//     I/O.
//  3. Allocate takes one immutable pool from an atomic pointer. It waits for
//     nobody and writes to no device; what it hands out was known and healthy
//     in that pool, and is fit when the allocation is recorded, or it hands out
//     nothing.
//  4. A device has one lease across all resources, whatever becomes of the pools:
//     while an allocation as one resource may not be over, no other resource hands
//     the device out. An allocation is over when the kubelet and the journal, asked
//     after it, no longer have it; an answer that does not come ends nothing. Within
//     one resource the kubelet keeps account.
//  5. A configured resource is registered even with no device in it, so that
//     the kubelet never keeps a number that has stopped being true.
//  6. Nothing is registered before the first inventory snapshot, so that a
//     restart is not seen as a node without devices.
//  7. A socket is removed only by the process that made it.
//  8. A physical function with VFs, or one that the host itself uses, is in no
//     pool (design invariant 7).
//  9. A bad configuration changes nothing but what File.Err and Plugin.Refused
//     say.
//  10. What describes a device for others (device-info file, CDI name) is there
//     before the device can be given out with it, stays while somebody may have
//     the device, across restarts, and goes with the last pool and holder.
//
// A Pool and a Config are immutable and may be shared. All methods of Plugin
// may be called concurrently; Run is called once. File is the same but for Run,
// which alone reads the file.
package deviceplugin
