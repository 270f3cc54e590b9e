// Package meta plays the meta-plugin's harder days on a real cluster: an API
// server that is away, slow, or answers with errors; definitions that change
// under running pods; pods whose containers hold devices of several pools;
// foreign plugins that tell what they were called with. Its tests carry the build
// tag cluster and share one stage. The faults are made by package fault, which
// stands between the daemon and the API server.
package meta
