// Package validate judges the objects that users write for Tendril: network
// definitions, pods that ask for networks, policies. It is what admission denies
// by and what `kubectl tendril lint` prints, so both say the same.
//
// It is pure: no I/O, no clock, no globals that change. What a judgement needs
// of the cluster comes in as Facts; a fact that is not known leads to no
// finding. Everything here may be called concurrently with the same Facts.
//
// Invariants:
//
//  1. Every rule has a stable code (see the table in finding.go). A code never
//     changes its meaning and is never used again.
//  2. Every finding is one line with object, field, value seen and values
//     allowed (invariant 9 of the design). Denied is only what an attachment
//     could not serve; what may be meant so is a warning.
//  3. The parsers are those of the attachment path (cni/netconf, ipam): what
//     they refuse, this package denies before anything is scheduled.
//  4. An update is not denied for what the object had before: findings that the
//     old object has as well become warnings.
package validate
