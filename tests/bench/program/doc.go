// Package program is what the programs of make bench have in common: the flags
// -rounds, -bin and -out, the lab they run in, the order of their parts, and what
// they print and keep.
//
// Invariants:
//
//  1. A run that could not measure everything publishes nothing and ends with
//     exit code 1.
//  2. What is built or fetched is so before the lab, which has no network, is
//     entered.
//
// A Run belongs to the goroutine that Measure is called on.
package program
