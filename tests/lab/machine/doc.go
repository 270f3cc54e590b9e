// Package machine owns the lab's virtual machines: what they are made of, how
// they are booted and wired, and how they are talked to.
//
// A machine is a QEMU q35 with an Intel IOMMU, two emulated Intel 82576 NICs on
// root ports of their own with up to 7 real VFs each, and a management
// interface. Its i-th NIC is joined by a wire to the i-th NIC of the other
// machine. In the machine the PFs are called sriov0 and sriov1 and the
// management interface eth0; the repository lies read-only at the path it has
// on the host, and a shared directory at /lab.
//
// Invariants:
//
//  1. [Boot] works only inside a lab (tests/lab Enter): taps and processes are
//     made in its namespaces and end with it.
//  2. A machine's disk starts from the same image each time and its writes are
//     thrown away at Close; they survive Reset as they would a power cut.
//  3. Boot returns a machine whose set-up succeeded in every step, or an error
//     with the end of its console.
//  4. Process output and exit codes are the machine's own: a lost machine is an
//     error, never an exit code.
//
// A [Client] may be used concurrently. Boot may be called concurrently for
// different indexes. Close and Reset of one machine may not be called at the
// same time.
package machine
