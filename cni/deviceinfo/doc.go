// Package deviceinfo keeps the device-info files of the Network Plumbing Working
// Group (device-info specification 1.1.0): it reads those that device plugins
// write, and makes and removes those that CNI plugins complete.
//
// Invariants:
//
//  1. The files of device plugins are only read.
//  2. A file appears complete or not at all, and nobody else's is replaced but
//     that of the same attachment.
//  3. Every path lies below the root that New was given.
//
// All methods may be called concurrently for different attachments.
package deviceinfo
