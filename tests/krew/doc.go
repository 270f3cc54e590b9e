// Package krew packs kubectl-tendril for Krew: one archive for each platform, with
// the licence that Krew's rules want inside, and the manifest that names them with
// their checksums.
//
// Archives are reproducible: the same files give the same bytes. All functions may
// be called concurrently.
package krew
