package cni

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// Devices tells which devices the kubelet gave to a pod: device IDs by extended
// resource, in the kubelet's order.
type Devices interface {
	Devices(ctx context.Context, pod PodRef) (map[string][]string, error)
}

// Namespaces opens and identifies network namespaces.
type Namespaces interface {
	// Open opens the namespace mounted at path; fs.ErrNotExist when nothing, or
	// no namespace any more, is there.
	Open(path string) (*os.File, error)
	// Identify says which namespace f is. Path is left empty.
	Identify(f *os.File) (Netns, error)
}

// Delegate runs networks that are not native, through plugin executables.
type Delegate interface {
	// Add runs the attachment's whole chain and returns its result in CNI
	// version 1.0 or later.
	Add(ctx context.Context, run Runner, a Attachment) (json.RawMessage, error)
	// Del undoes it; result is what Add returned, or nil if that is not known.
	Del(ctx context.Context, run Runner, a Attachment, result json.RawMessage) error
}

// Options are what an Engine is made of. All fields are required.
type Options struct {
	Journal *journal.Journal
	// Drivers by kind.
	Drivers    map[string]Driver
	Delegate   Delegate
	Cluster    Cluster
	Devices    Devices
	Namespaces Namespaces
	Report     Reporter
	// Default returns the cluster's default network as it is configured now.
	Default func() (netconf.Network, error)
	// Ready says why an ADD cannot be served now, or nil.
	Ready func() error
	// BootID is the kernel's id of this boot (/proc/sys/kernel/random/boot_id).
	BootID string
	Log    *slog.Logger
}

// Engine serves CNI calls. Use New.
type Engine struct {
	Options
	locks locks
	gone  recent
}

// New returns an Engine. Call Recover before the first request.
func New(o Options) *Engine { return &Engine{Options: o} }

// records returns what the journal has of one container, in the order of ADD.
// With call set, only what the ADD with that CNI_IFNAME made.
func (e *Engine) records(container, call string) ([]Record, error) {
	var out []Record
	err := e.Journal.View(func(tx *journal.Tx) (err error) {
		out, err = decodeAll(tx.Container(container))
		return err
	})
	if call != "" {
		out = filter(out, func(r Record) bool { return r.Attachment.Call == call })
	}
	return out, err
}
