// Package quarantine keeps VFs that could not be brought back to their baseline
// out of use, and tries again until they are there.
//
// It owns the list of such VFs, on disk and in memory, and the times of the tries.
// What the baseline is, and how a VF gets back to it, is the business of whoever
// put the VF in: that is a note in bytes and a function.
//
// Invariants:
//
//  1. A VF is in quarantine from the moment Admit returned until a try succeeded
//     and that was stored. A restart of the process changes nothing; a reboot ends
//     every quarantine, because VFs do not outlive it.
//  2. At most one try of one VF runs at a time, and tries of different VFs do not
//     wait for each other.
//  3. Cause takes no lock and reads no file.
//  4. Whoever puts a VF in does not wait for a try.
//
// All methods may be called concurrently; Run is called once.
package quarantine
