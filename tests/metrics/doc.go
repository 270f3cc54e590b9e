// Package metrics asks the daemon for its numbers on a machine with real VFs:
// what the ordinary tier, over a made-up sysfs, cannot show. `go test -tags lab`.
package metrics
