// Package doctor judges whether nodes and the cluster are fit for networks: IOMMU,
// kernel modules, kubelet, container runtime, CNI configuration, other network
// stacks, versions. It is pure: facts in, checks out.
//
// What fails keeps pods from their networks, or VFs from being safe; what warns is
// to be known of. A fact that is missing is never a check that is well.
//
// Node and Cluster may be called concurrently.
package doctor
