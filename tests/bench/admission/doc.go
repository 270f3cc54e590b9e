// Command admission measures the injection of pods: the controller as it is
// installed, beside the network resources injector's own handler, both over HTTPS
// on loopback, in a cluster with 5,000 network definitions. The API server behind
// the controller is a real one; the injector is spared its cluster and has the
// definitions in its cache.
//
// docs/benchmarks.md says what the lines mean.
package main
