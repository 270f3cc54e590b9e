// Package programs builds the programs of other projects that the lab runs, and the one tiny program
// of its own: Kubernetes with etcd, containerd, the reference CNI plugins and Flannel's,
// Multus, the network resources injector, and pause. Each is a Go
// module of its own below this folder, whose go.mod and go.sum pin everything that goes into it; they
// are apart from Tendril's go.mod so that nothing of theirs becomes a dependency of ours.
//
// Invariants:
//
//  1. What is built depends on the module's files, the flags given here and the Go version, and on
//     nothing else; all of them are in the artefact's key.
//  2. Every program is static and runs on the host and in a guest alike.
//
// It keeps nothing but what is in the lab's cache; all functions may be called concurrently.
package programs
