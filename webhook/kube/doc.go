// Package kube is what the webhooks know of the cluster, and what they write to
// it: the caches that reviews are decided from, the Secret with the serving
// certificate, the authority in the webhook configurations.
//
// Its types implement interfaces of webhook, webhook/validate and webhook/certs.
// All methods may be called concurrently; Run once.
//
// Invariants:
//
//  1. A review of a pod reads the API server for nothing but a definition that no
//     watch has seen, and then at most once in a second for each name, with a
//     bound on how many at a time: names that do not exist cannot flood it. A
//     review of a definition whose ranges shrink reads the address blocks.
//  2. Summaries of definitions are made when one changes, not when a review
//     comes.
//  3. Only what somebody looks at is kept of an object.
//  4. A webhook configuration is changed in its authority and in the condition
//     of pod injection, nothing else; both only when they differ.
package kube
