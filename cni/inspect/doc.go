// Package inspect is what a node's daemon tells of itself to people: the answers'
// shapes, the server on a unix socket that gives them, and the client that asks.
// kubectl-tendril runs the client inside the daemon's own pod, so that no port is
// open on the host and the right to exec there is the right to ask.
//
// It owns neither what is told nor how it is found out: the daemon's wiring gives
// the server one function for each path.
//
// Invariants:
//
//  1. Asking changes nothing: the only method is GET, and a source only reads.
//  2. No answer has a secret in it: of networks there are names and types and
//     never the configuration, which may hold somebody's password.
//  3. An answer that is not whole says so (the field Incomplete): what is missing
//     never looks like what is not there.
//
// Programs of other versions may ask: fields are added, and neither renamed nor
// given another meaning. Serve may be called once for a listener, Ask by anybody
// at any time.
package inspect
