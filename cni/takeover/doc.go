// Package takeover reads what a live Multus and sriov-cni have on disk about the
// pods that run, and turns it into records of the journal, so that a node changes
// over without being drained and the later DELs are right. It reads; what it
// removes is only what Tendril has detached.
//
// What is where (multus-cni v4, pkg/multus; libcni cniCacheV1; sriov-cni v2):
//
//	<multus>/<containerID>                                a JSON list of delegates
//	<multus>/results/<network>-<containerID>-<ifname>     result, netns, CNI_ARGS
//	<sriov>/<containerID>-<ifname>                        a VF's prior state
//	<sriov>/pci/<address>                                 the netns that has the VF
//
// Invariants:
//
//  1. An attachment becomes kind exec: its own plugin undoes it, with the
//     configuration and result it was made with. The exception is a VF whose prior
//     state is known and that has no addresses: it becomes kind sriov, since
//     Tendril restores more than sriov-cni does (field guide: it forgets a VF on
//     its first error).
//  2. Reading is tolerant: what cannot be understood is told and does not hold up
//     the rest. These files are not written atomically by those who write them.
//  3. The files of a sandbox stay until Tendril has detached it (Forget): until
//     then the way back is open.
//
// Functions may be called concurrently.
package takeover
