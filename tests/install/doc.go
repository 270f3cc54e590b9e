// Package install plays the life of an installation on a cluster, with the commands
// of docs/install.md and no others: install, a pod with a VF, and taking everything
// off again, after which the node is compared with what it was before; then the
// previous commit is installed, and upgraded to this one under a storm of pods.
package install
