// Package v1alpha1 is the API of address spaces, group tendril.dev: the kind
// AddressBlock, which says who has each of the 64 addresses of one cell.
//
// It owns the shapes and their names, no behaviour beyond looking things up.
// Values are plain; whoever shares one between goroutines does not change it.
//
// Invariants:
//
//  1. A slot has one owner by the shape of the data: Slots has one entry a slot
//     (a map list in the definition), and an entry has one owner.
//  2. A block's name is made from its cell and space, so that two blocks of one
//     cell cannot exist.
package v1alpha1
