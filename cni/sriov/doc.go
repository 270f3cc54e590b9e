// Package sriov attaches virtual functions (VFs) to pods and gives them back: the
// driver of kind "sriov".
//
// It owns the order in which a VF is configured, moved and restored, and the note
// of its earlier state (Record.Prior). It knows no pool, no API server and no
// other kind of interface.
//
// Invariants (numbers 2 to 4 of the design, as they show here):
//
//  1. Prior changes nothing and records everything that Attach may change: what
//     Detach needs is in the record, and nowhere else.
//  2. Detach may start after a SIGKILL at any point of Attach or of an earlier
//     Detach. It looks at the VF, compares with the record and writes only what
//     differs; it returns nil once it has seen the VF at its baseline, or the VF
//     is gone, or nothing was ever done to it.
//  3. A VF is taken from where it is known to be: the host's namespace, or the
//     record's own. A VF that carries another attachment's mark is refused by
//     Prior and left alone by Detach.
//  4. The mark (the alias of the VF's network device) is set before the first
//     change and taken off after the last, so a VF without it is unchanged or
//     restored.
//  5. A VF whose driver was changed under the pod gets it back before anything
//     else is compared.
//  6. Outside a pod a VF is never without a name of its own: a name that is taken
//     on the host is replaced by one made of the PCI address, and logged.
//
// VFs on a userspace driver (vfio-pci) have no network device to be marked: for
// them the caller's rule "at most one record for a device" is all there is. The
// caller keeps that rule for every device, and it does not call Attach and Detach
// of one record at the same time. For different devices all methods may be called
// concurrently.
package sriov
