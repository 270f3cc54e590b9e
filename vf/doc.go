// Package vf holds the values of SR-IOV: PCI addresses, physical and virtual
// functions, and the inventory of one node.
//
// It is a pure root: it reads no file, opens no socket and knows neither CNI nor
// Kubernetes. Packages vf/sysfs and vf/link fill its values from the kernel.
//
// Invariants:
//
//  1. A function is identified by its PCI address and by nothing else. Names of
//     network devices come and go with namespaces.
//  2. A published Snapshot never changes; its lists are sorted by address.
//
// All values may be shared between goroutines as long as nobody writes to them.
package vf
