// Package bond joins links of a pod, or of the host, to one interface in the
// pod. It takes the configuration of bond-cni.
//
// Invariants:
//
//  1. The bond is made in the pod under its final name, marked, before any link
//     is enslaved.
//  2. Detach releases the slaves before the bond goes, and works when slaves or
//     bond are gone already. Slaves of the host go back as Prior saw them.
//
// A Driver has no state; all its methods may be called concurrently.
package bond
