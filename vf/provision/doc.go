// Package provision brings the NICs of a node to what VF policies want and keeps
// them there: it observes, lets vf.Plan decide, records, acts through one worker a
// PF, and observes again.
//
// It owns the order in time, the record of the PFs whose VFs Tendril made, and
// the answer to "may this VF be given out". It knows neither pods nor the API
// server: who uses a VF reaches it as a function, policies as values, and what it
// reports is a vf.State.
//
// Invariants:
//
//  1. Only steps of vf.Plan are taken, and of one PF at most one chain at a time.
//  2. That Tendril makes the VFs of a PF is recorded before they are made, and
//     what autoprobe was before it is changed for a while. VFs whose number is not
//     the recorded one are somebody else's.
//  3. Before a VF is destroyed, bound anew or cut off, it is marked busy, and only
//     then is looked whether somebody uses it; whoever begins to use a VF records
//     that first and then looks whether it is busy (Busy). So one of the two
//     always sees the other.
//  4. A step that fails is tried again after a growing time, at most a minute; it
//     holds up no other PF.
//
// All methods may be called concurrently; Run is called once.
package provision
