// Package linktest has a stand-in for one VF of an Intel 82576, for the faults
// that real hardware does not produce on demand.
//
// Invariants:
//
//  1. It keeps state: what is written decides what is read, by the rules of the
//     igb and igbvf drivers (drivers/net/ethernet/intel in Linux 6.12).
//  2. It prints itself, so that a test compares whole states as text.
//
// An Igb belongs to one goroutine.
package linktest
