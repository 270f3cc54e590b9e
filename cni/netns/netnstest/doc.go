// Package netnstest gives tests a real kernel without root: it runs a test
// binary again inside a user, network and mount namespace of its own, where the
// tests may make namespaces ("pods") and links as they like.
//
// Everything lives as long as the test binary; the helpers are safe for parallel
// tests, which share the outer namespace ("the host") and take unique names.
package netnstest
