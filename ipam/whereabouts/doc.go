// Package whereabouts reads and writes what whereabouts v0.9.4 keeps in the API
// server: its IPPools and OverlappingRangeIPReservations. It serves the change
// from and to whereabouts and nothing else.
//
// Pools and names are pure and may be used concurrently, as may Reservations.
//
// Invariants:
//
//  1. An allocation whose address cannot be told is an error, never skipped:
//     what is not imported would be handed out twice.
//  2. While both run, an address belongs to whose reservation of it was created
//     first: the API server lets one of the two create it.
package whereabouts
