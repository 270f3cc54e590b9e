// Package netconf turns what users wrote into typed, validated values: network
// definitions (CNI configurations, single or list), the configurations of the
// native link kinds, and the pod annotations that select networks.
//
// It is a pure root: no I/O, no clock, no globals that change. Everything in it
// may be called concurrently.
//
// Invariants:
//
//  1. What a foreign plugin will see is what was written: fields this package
//     does not know pass through with their exact value, big integers included.
//     Only key order and white space may change, and only where a field is set.
//  2. Every "no" is a refusal.Refusal with the field's path, the value seen and
//     the values allowed (invariant 9 of the design). Object is empty unless the
//     caller gave it: refusal.Name adds it. Where text has a position, the cause
//     is a Position.
//  3. Every name that may become part of a file name or of a command line
//     (network, plugin type, interface, namespace) was checked before it is
//     returned.
//  4. Keys are matched without regard to case and unknown keys are ignored, as
//     Go's JSON decoder does for the plugins this package stands in for; of
//     repeated keys the last one counts.
package netconf
