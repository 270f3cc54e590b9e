// Package cluster runs a real Kubernetes cluster: the control plane natively in the lab's namespaces
// (package kube), and one or two nodes, node1 and node2, each a lab machine (package machine) with
// containerd and kubelet. The default network is the reference bridge plugin with host-local
// addresses, routed between the nodes and to the control plane, so that a cluster works as any other
// does before Tendril comes to it.
//
// Invariants:
//
//  1. Start returns a cluster whose nodes are Ready and in which a pod can be created at once, or an
//     error with the end of the logs that explain it.
//  2. Node n is machine n, at 10.77.0.1n, with pods in 10.244.n.0/24. There is no kube-proxy and no
//     cluster DNS: a pod that talks to the API server is told where it is by KUBERNETES_SERVICE_HOST
//     and KUBERNETES_SERVICE_PORT in its manifest.
//  3. No registry is reachable. A node has the images PauseImage and ToolsImage and those of the
//     options, on a disk that was made before it booted, and what ImportImage gave it; pods say
//     imagePullPolicy: Never.
//  4. Everything ends with Close or with the lab's namespaces, whichever comes first.
//
// Methods may be called concurrently, save Close.
package cluster
