// Command tendril-cni is Tendril's drivers as ordinary CNI executables, for
// Podman, Nomad, cnitool, Multus and whatever else runs plugins, with no daemon.
// It answers to the name it is called by: sriov, macvlan, ipvlan, vlan, bridge,
// host-device, bond; tuning, sbr, vrf; static, host-local. For dhcp see tendril-dhcp.
//
// Invariants:
//
//  1. The intent of an attachment, with what it takes to undo it, is on disk
//     before anything is touched; DEL goes by that record and not by the
//     configuration it is given, nor by the state of the host.
//  2. A failed ADD has undone itself by the code of DEL, or the record is there
//     for DEL and GC.
//  3. Standard output carries the result or the error object of the
//     specification, and nothing else.
package main
