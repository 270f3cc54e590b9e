// Package contest compares things by the time they take: it lets them run by
// turns, keeps every sample, and makes ratios of medians. It knows nothing of
// what it times.
//
// Invariants:
//
//  1. Sides run one at a time and by turns, A B A B, so that a machine that gets
//     busy is as bad for the one as for the other.
//  2. Every sample of a round that counts is kept; none is thrown away for being
//     slow.
//  3. A ratio is made of two medians of one Play, never of two runs.
//
// Samples and Comparisons are values; Play is called by one goroutine.
package contest
