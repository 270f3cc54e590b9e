// Package oci writes container images as OCI archives that a container runtime imports from a file.
// The lab reaches no image registry, so every image that runs in it is made here from files that are
// already on this machine.
//
// Invariants:
//
//  1. An archive is a function of the Image and of the bytes of its files alone: the same input gives
//     the same archive, byte for byte, whatever the clock, the user or the machine.
//  2. A failed WriteFile leaves no archive behind, and an older archive of that name untouched.
//
// It holds no state; everything may be called concurrently.
package oci
