// Package multussock speaks the protocol of the Multus daemon (multus-cni v4,
// pkg/server) on a unix socket, for tools that expect it: HTTP with JSON, POST
// /cni for whole CNI calls, POST /delegate for one network of a running pod, and
// /healthz and /readyz. It translates, and knows neither networks nor pods.
//
// Invariants:
//
//  1. Only root and the daemon's own user can connect: the socket is made as that
//     of the shim (rpc.Listen).
//  2. What is not understood is an answer with status 400 or 404 that says why,
//     and nothing is done.
//  3. Serve returns when every request has been answered.
//
// A Server may serve any number of requests at once.
package multussock
