// Package footprint measures what Tendril's own pods take on a node with pods on it,
// and holds the requests of the chart against that.
package footprint
