// Package link reads and writes what a physical function (PF) keeps about its
// virtual functions (VFs): VLAN, administrative MAC, rates, spoof check, trust and
// link state, by rtnetlink on the PF's network device. It also knows what the host
// itself uses network devices for, and sets PFs up.
//
// It knows no policy, no pod and no file of sysfs: whoever calls names the PF.
//
// Invariants:
//
//  1. Plan is pure; Apply writes exactly what Plan returned and nothing that was
//     not asked for.
//  2. What was written is read back. A value that the driver took and did not
//     keep is an error.
//  3. What a driver does not report is nil here and never a made-up value.
//  4. Before anything is written Check refuses what the PF is known to lack; what it
//     lacks is learnt from its driver's own answers.
//  5. A value that the driver refuses becomes a refusal.Refusal with the driver's
//     name, the field, the value and what would have been taken.
//
// A failing Apply leaves the steps before the failing one done. The caller recorded
// what Read returned before, and applies Undo of that.
//
// All functions may be called concurrently, also for VFs of one PF. They work in
// the network namespace of the calling thread, which is the host's everywhere in
// this program.
package link
