// Package explain makes pods fail on a real node in every way that their users meet,
// and holds what `kubectl tendril explain` says of each against a file. The files of
// testdata are normative: what they want changes by decision only.
//
// A file is a txtar archive of two parts. case.yaml has the networks and the pod, in
// a namespace of the file's name; want is the answer, without what differs from run
// to run. `go test -tags cluster ./tests/explain -args -update` writes want anew.
package explain
