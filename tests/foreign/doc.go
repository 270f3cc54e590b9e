// Package foreign has other projects' plugins be the networks of a pod: the real
// shim runs them for the real daemon, on a real kernel, in namespaces of this
// test's own. They are built from their pinned modules (package programs).
package foreign
