// Package admission is the wiring of tendril-controller's webhooks: caches,
// certificate, listeners, in one run group. It owns no rule: what is decided is
// in webhook.
//
// Run may be called several times in one process, with ports of their own: that
// is what replicas are.
package admission
