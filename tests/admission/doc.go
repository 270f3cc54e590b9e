// Package admission tests the webhooks where they live: the controller's image as
// two pods of deployment/manifests/controller.yaml, called by a real API server
// through its Service, on a node with real VFs. What needs no pods is tested in
// cmd/tendril-controller/admission.
package admission
