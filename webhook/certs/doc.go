// Package certs keeps the certificate that the webhooks serve with: an authority
// and a leaf of its own, renewed without a failed handshake, or files that
// somebody else renews (cert-manager, a service CA).
//
// It owns State, what the shared Secret holds, and the order of a renewal. The
// Secret and the webhook configurations are behind Store and Publisher. A
// Keeper's and a Files' methods may be called concurrently, Run once.
//
// Invariants:
//
//  1. A leaf is served only while the authority that signed it is in the
//     published bundle, and has been for Policy.Overlap: API servers learn of a
//     bundle late, and each on its own.
//  2. An authority leaves the bundle only Policy.Overlap after no leaf of it is
//     in the Secret: replicas learn of a leaf late as well.
//  3. State changes by compare-and-swap alone, so any number of replicas agree
//     on one authority without a leader.
//  4. Certificate and key change together or not at all; what cannot be read
//     leaves the old pair in place.
package certs
