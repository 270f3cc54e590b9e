// Package ipam decides which addresses an attachment gets: it reads the ipam
// object of a network configuration and reserves and releases addresses in a
// durable map that its caller owns. It knows the types static and host-local,
// whose addresses are this node's, and whereabouts and tendril, whose addresses
// the whole cluster has one each.
//
// It is a pure root: no I/O beyond the Store, no clock, no goroutine, no
// globals that change. Parse may be called concurrently. Reserve, Release and
// the methods of Ledger change a Store and are as concurrent as that Store's
// transactions: whoever implements Store runs each call in one read-write
// transaction and throws the transaction away when the call returns an error.
//
// Addresses of the cluster are slots of cells (64 addresses, aligned). A node has
// the slots that the API server says are its own; ipam/kube claims them and gives
// them back, and Reserve hands out what is there. When nothing is, it says
// NeedSlots and has changed nothing: the caller has slots claimed outside of the
// transaction and reserves again. A range is a filter over slots and owns none.
//
// Invariants:
//
//  1. An address of a network has at most one owner, the pair of container and
//     interface (invariant 5 of the design). Networks do not see each other.
//  2. Reserve decides before it writes: a refused or exhausted Reserve has
//     written nothing.
//  3. Reserve for an owner that holds addresses returns those. Release frees
//     exactly what the owner holds; releasing nothing succeeds.
//  4. The keys of a network agree: a slot's bit is set if and only if the slot
//     has an owner record, and that owner's index names the slot.
//  5. Reserve hands out a slot of the cluster only if the API server confirmed it
//     as this node's, nothing put that in doubt since, and it is not on the way
//     back. A freed slot goes to its last pod at once, to strangers after Thaw.
//
// # Layout
//
// Keys of static and host-local start with the network's name and a zero byte. An address is a slot
// of the 128-bit space (IPv4 in its mapped form). Slots are grouped into cells
// of 64 (IPv4 /26, IPv6 /122), cells into nodes of 64 cells, and so on, four
// levels high:
//
//	n<level><id>              64 bits: taken slots, or full nodes one level down
//	s<address>                the owner of a slot, JSON
//	o<container>\0<interface> the addresses of an owner, JSON
//	l<set>                    the address of the set handed out last
//
// An absent node is an empty one, so a range costs nothing until it is used, and
// a search looks at a handful of nodes whatever the range's width or load.
//
// Keys of the Ledger start with a zero byte:
//
//	I                           the spaces, JSON
//	i<space>                    the cells of a space, 16 bytes each, ascending
//	c<space>\0<cell>            the Holding of a cell, 50 bytes and a version
//	s<space>\0<address>         the owner of a slot, JSON
//	o<network>\0<container>\0<interface>  the addresses of an owner, JSON
//	g<network>\0<container>\0<interface>  what its claim grants, until Reserve
//	p<space>\0<pod>\0<interface>          the addresses it had last, JSON
//	w<space>\0<address>         the key of the p record that names it
package ipam
