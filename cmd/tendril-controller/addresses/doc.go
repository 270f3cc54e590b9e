// Package addresses is the wiring of what tendril-controller does for the
// cluster's addresses: it reclaims those of nodes and claims that are gone, deletes
// blocks that are empty, and tells how full ranges are and when they will be full.
//
// Invariant: one replica does it at a time, the holder of a lease. Two at once
// would do double work and no harm.
//
// Run may be called several times in one process: that is what replicas are.
package addresses
