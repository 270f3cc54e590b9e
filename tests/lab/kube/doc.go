// Package kube runs a real Kubernetes control plane on this machine: etcd and kube-apiserver and, when
// asked, kube-controller-manager and kube-scheduler, with the certificates, tokens and kubeconfigs that
// belong to it. An API server alone answers in two seconds, needs no privilege, and is what tests of
// controllers, admission and client code run against.
//
// Invariants:
//
//  1. Two API servers never meet: etcd listens on a unix socket in its own state directory, and the API
//     server on a port that is held for it from before it starts until Close, over any Stop and Start.
//  2. Start returns an API that is ready: /readyz says ok, the definitions are established, the
//     namespace "default" exists.
//  3. No process outlives Close or, if a test dies before it gets there, the thread that started it.
//  4. The proxy settings of the environment are not followed: the API server is always on this machine
//     or on the lab's own wire.
//
// An API's methods may be called concurrently, save Stop, Start and Close.
package kube
