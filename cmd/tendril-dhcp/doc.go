// Command tendril-dhcp is the ipam dhcp for CNI executables, ours and others': by
// that name it answers a plugin's calls, and `dhcp daemon` keeps the leases. The
// two speak the protocol of the reference's dhcp, so that either side may be the
// reference's. tendrild needs neither: it keeps the leases of its pods itself.
//
// It is a program of its own because what it is made of (HTTP, gob, a DHCP client)
// would cost each start of a link plugin more than the link does.
//
// Invariants:
//
//  1. A lease is on disk before it is answered with; the next daemon goes on.
//  2. Standard output carries the result or the error object of the
//     specification, and nothing else.
package main
