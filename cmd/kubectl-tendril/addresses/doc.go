// Package addresses counts what is used, idle and free in the ranges of networks:
// from their definitions, the cluster's AddressBlocks, and what the nodes' journals
// hold. It is pure.
//
// A used address is with an attachment, an idle one belongs to a node that can
// hand it out at once, and a free one to nobody. Count may be called concurrently.
package addresses
