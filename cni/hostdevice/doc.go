// Package hostdevice moves a network device of the host into a pod and back. It
// takes the configuration of the reference plugin host-device.
//
// Invariants:
//
//  1. A device that leaves the host carries the attachment's mark before it
//     moves, so it is found again under whatever name, in the pod or back on the
//     host, by the record alone.
//  2. Detach is done when the device is on the host under its old name with its
//     old MAC, MTU, alias and flags, or does not exist any more. Where a
//     namespace is being torn down the kernel brings a physical device back a
//     little later: until then the answer is "not yet".
//  3. The device of the host's default route never leaves (invariant 7 of the
//     design).
//
// A Driver has no state; all its methods may be called concurrently.
package hostdevice
