// Package oci writes container images as OCI archives that a container runtime imports from a file, and
// that any tool for registries pushes. The lab reaches no image registry, so every image that runs in it
// is made here from files that are already on this machine; Tendril's own image is made the same way.
//
// Invariants:
//
//  1. An archive is a function of the Images and of the bytes of their files alone: the same input gives
//     the same archive, byte for byte, whatever the clock, the user or the machine.
//  2. A failed WriteFile leaves no archive behind, and an older archive of that name untouched.
//
// It holds no state; everything may be called concurrently.
package oci
