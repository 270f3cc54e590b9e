// Package install plays the life of an installation on a cluster, with the commands
// of docs/install.md and no others: install, a pod with a VF, an upgrade while pods
// are created, and taking everything off again. What the nodes have after that is
// compared with what they had before.
package install
