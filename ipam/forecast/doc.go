// Package forecast says how full the ranges of the cluster's networks are and
// when they will be full if use goes on as it did.
//
// It is pure: a Tally counts blocks, a Trend keeps numbers with the times that its
// caller gives. Neither may be used concurrently.
package forecast
