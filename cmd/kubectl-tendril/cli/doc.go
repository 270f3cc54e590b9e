// Package cli is the command line of kubectl-tendril: its verbs, flags, tables and
// exit codes. What a verb judges by lies in the packages beside it; here it is
// gathered and printed.
//
// Invariants:
//
//  1. Only migrate --apply and whereabouts import --apply write to the cluster.
//  2. Answers go to standard output and nothing else does; what could not be seen
//     is said on standard error.
//  3. Exit codes mean the same for every verb: see [Answered] and the others.
//  4. Output that is not a terminal has no colour.
//
// Run may be called concurrently.
package cli
