// Command tendril is the CNI plugin that the container runtime starts. It does
// nothing itself: it hands the call, with the pod's network namespace opened, to
// the daemon tendrild over a unix socket, runs the plugin executables that the
// daemon asks for, and prints what the daemon answers.
//
// Invariants:
//
//  1. It never reports success that the daemon did not report, but for a DEL that
//     is durably spooled for the next daemon (package spool). Without a daemon
//     the answer is CNI error 11 (try again later), for STATUS 50 (not
//     available), within the configured time.
//  2. It is one static file under 4 MiB made of the standard library, cni/rpc and
//     cni/spool.
//
// It reads four keys of its configuration, all optional:
//
//	socket          path of the daemon's socket, /run/tendril/tendril.sock
//	connectSeconds  how long to go on connecting while the daemon restarts, 10;
//	                for STATUS 2 at most
//	timeoutSeconds  how long to wait for the answer, connecting included, 100;
//	                the kubelet gives a sandbox two minutes
//	spool           where a DEL is left when no daemon listens,
//	                /var/lib/tendril/spool; "" for nowhere. The daemon makes the
//	                directory; while it exists such a DEL waits 2 s at most
package main
