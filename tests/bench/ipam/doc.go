// Command ipam measures addresses beside whereabouts v0.9.4, on one real API
// server in one run, and Tendril's cold start on many nodes. It prints medians,
// 90th percentiles, ratios and counts of API calls, and keeps all samples in a file;
// docs/scale.md says what they mean.
//
// whereabouts is built from its pinned Go module and run as a container runtime
// runs it. Tendril's side is what the daemon runs: ipam.Reserve in the journal's
// transaction, and Claim when slots are short.
//
// Invariants:
//
//  1. What was timed was done: every address that was given is looked at, and
//     none is given twice.
//  2. Speed is no test: the exit code says whether everything was measured.
package main
