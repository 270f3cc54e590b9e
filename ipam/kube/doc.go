// Package kube is a node's side of the cluster's address spaces: it claims slots
// of AddressBlocks for the node, and gives them back.
//
// The API server is the only arbiter: every change is an update (or a create) of
// one block, conditional on the resourceVersion that it was made from. Nodes do
// not list blocks, do not watch them and elect nobody. Which attachment has which
// slot is package ipam's, in the node's journal.
//
// Invariants:
//
//  1. A slot is recorded as the node's after the API server confirmed it, and
//     given back only after the journal took it out of use.
//  2. A write is announced in the journal before it is sent. A write whose
//     outcome is unknown stays announced until a quorum read shows another
//     resourceVersion than the one it was aimed at; until then its slots are
//     nobody's.
//  3. One write of a node to one block is on its way at a time: operations on a
//     block are serialised by a lock of its own.
//  4. What does not change slots (a poll for wants) may read the API server's
//     cache; what does reads by quorum.
//  5. An unreachable API server keeps nobody from handing out what the node has,
//     nor from releasing.
//
// A Node may be used by any number of goroutines. It has none of its own but in
// Run, which ends them before it returns.
package kube
