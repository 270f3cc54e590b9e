// Package kube is the engine's side of the API server: a cache of this node's
// pods and of the cluster's NetworkAttachmentDefinitions, and the reports that
// go the other way, the network-status annotation and events. It knows nothing
// of links, devices and CNI results.
//
// Invariants:
//
//  1. Looking up a pod or a definition makes no request. It waits, woken by the
//     watch, for what the API server has but this node does not know yet.
//  2. A pod is found by its UID, so that the successor of a pod is never taken
//     for it. Static pods are the exception: what the kubelet calls their UID is
//     not what the API server calls it.
//  3. Reporting never delays the caller and never fails it. The last status of a
//     pod is what is written; one that was given before it may be skipped.
//  4. A status is written to the pod with that UID or to none.
//  5. Statuses and warnings come before other events, which wait until there was no
//     status for a moment, seconds at most: they say what the status says.
//
// [Cache] implements cni.Cluster, [Reporter] implements cni.Reporter. Both may
// be used concurrently, before, during and after their Run.
package kube
