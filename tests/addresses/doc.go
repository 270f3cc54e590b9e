// Package addresses plays the cluster's addresses with everything that is real but
// the nodes: whole daemons (package node), each with its directories, socket and
// journal, on one kernel in namespaces of the test's own, against one etcd and
// API server. Pods are Pod objects and network namespaces; calls come over the
// daemons' sockets, as the shim makes them.
package addresses
