// Package vf holds the values of SR-IOV, PCI addresses, physical and virtual
// functions and the inventory of one node, and decides: which policy has which VF
// (Assign), what has to be done for that (Plan), which VFs a resource offers
// (Select), and what a node says about all of it (State).
//
// It is a pure root: it reads no file, opens no socket and knows neither CNI nor
// Kubernetes. Packages vf/sysfs and vf/link fill its values from the kernel,
// vf/v1alpha1 translates policies, vf/provision acts, vf/kube reports, and
// vf/quarantine keeps out of use what is not as it was.
//
// Invariants:
//
//  1. A function is identified by its PCI address and by nothing else. Names of
//     network devices come and go with namespaces.
//  2. A published Snapshot never changes; its lists are sorted by address.
//  3. A VF belongs to one policy at most, and is in one Selection at most.
//  4. No step that Plan lets be taken destroys, binds or cuts off a VF that is in
//     use (design invariant 6), touches a PF that the host uses without leave
//     (design invariant 7), or changes the number of VFs that others made.
//  5. Taking the steps of a plan leads to a plan without steps, but for those that
//     are blocked, each of which names object, field, value and what is allowed.
//
// All values may be shared between goroutines as long as nobody writes to them.
package vf
