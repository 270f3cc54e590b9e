// Package sysfs owns all of /sys, under a root that tests may choose: which
// network functions the PCI bus has, which of them are VFs of which PF, their
// drivers, IOMMU groups and network devices.
//
// It knows no policy, no pool and no pod. It is the only package that reads
// below /sys/bus/pci.
//
// Invariants:
//
//  1. One unreadable or senseless attribute costs that attribute (or, where the
//     identity hangs on it, that function) and is named; it never empties or ends
//     a scan.
//  2. A network device is shown only while it is in the network namespace of this
//     sysfs mount. A VF inside a pod therefore has none, and that is not an error.
//  3. The Inventory's goroutine alone replaces the published snapshot; a snapshot
//     is never changed after it was published.
//  4. Reading has no effect. What writes (SetNumVFs, SetAutoprobe, Bind) says so
//     and reads back what it wrote.
//  5. A snapshot is at most a second behind the kernel, without polling: device
//     events and link events lead to one scan, and one sweep a minute is the net
//     below them.
//
// FS has no state: all its methods may be called concurrently, those that write
// for different functions. Inventory's
// methods may be called concurrently with Run and with each other; Run is called
// once.
package sysfs
