// Package install owns the two files that Tendril puts on a host: the shim in
// the CNI binary directory and 00-tendril.conflist in the CNI configuration
// directory.
//
// Invariants:
//
//  1. A reader sees the old file or the new one, whole: written beside, fsynced,
//     renamed. A file is never empty and is not touched when it is right already.
//  2. The configuration is written after the shim it names, and only by a daemon
//     that can serve: its presence means "pods get all their networks".
//  3. A daemon that stops or restarts leaves the configuration, so that no pod
//     starts with its default network alone (invariant 1 of ARCHITECTURE.md), and
//     while it runs [Guard] puts the file back whoever takes it away. [Uninstall]
//     alone removes it.
//  4. What was on the host before is kept: a configuration that had to give way
//     ([Displace]) is renamed and not deleted, and Uninstall renames it back.
//
// Its functions are for one goroutine; a Guard may run beside them.
package install
