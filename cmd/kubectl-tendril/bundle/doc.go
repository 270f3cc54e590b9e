// Package bundle makes the archive that somebody sends to who is to look at a
// problem: a tar.gz of texts without secrets.
//
// Invariants:
//
//  1. No text comes into an archive but through Redact: there is no other way in.
//  2. Of objects only what is known to be harmless is kept (Pod, Own, Network): what
//     this package does not know, it leaves out. Secret objects are never read.
//  3. When in doubt something is taken away: the archive may lack what is harmless,
//     and does not have what is not.
//
// An Archive belongs to one goroutine; Redact may be called concurrently.
package bundle
