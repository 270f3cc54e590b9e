// Package server carries admission reviews over HTTPS: it reads a review, hands
// it to a Reviewer and writes the response. Health and metrics have a plain
// listener of their own, since probes have no certificate.
//
// It owns the listeners and what is said about them. Serve and ServeHealth run
// until their context ends; the handlers may be called concurrently.
//
// Invariants:
//
//  1. What a client sends is answered with a 2xx or a 4xx, never a 5xx: only a
//     review that could be read gets a response.
//  2. A review ends before the API server gives up on it (its timeout parameter),
//     so that the cause is told and not only that time ran out.
//  3. Ready means that a review sent now is answered: the certificate is good,
//     what reviews need is known, and a handshake with the listener succeeds.
package server
