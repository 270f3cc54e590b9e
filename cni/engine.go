package cni

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"

	"github.com/containernetworking/cni/pkg/types"

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

// Verbs is what a Delegate may also have: the verbs of the specification beside
// ADD and DEL, for networks whose plugins know them.
type Verbs interface {
	// Check has the chain check what result, that of Add, says.
	Check(ctx context.Context, run Runner, a Attachment, result json.RawMessage) error
	// Status asks whether the network could serve an ADD.
	Status(ctx context.Context, run Runner, n netconf.Network) error
	// GC tells the chain which of its attachments are valid.
	GC(ctx context.Context, run Runner, n netconf.Network, valid []types.GCAttachment) error
}

// Options are what an Engine is made of. The fields of the first block are
// required; the others may be zero, and what they serve is then refused or left
// out.
type Options struct {
	Journal *journal.Journal
	// Drivers by kind.
	Drivers map[string]Driver
	// Modifiers by the type of their plugin.
	Modifiers  map[string]Modifier
	Delegate   Delegate
	Cluster    Cluster
	Devices    Devices
	Namespaces Namespaces
	Report     Reporter
	// Default returns the cluster's default network as it is configured now. It
	// is not asked where Node.ClusterNetwork names it.
	Default func() (netconf.Network, error)
	// Ready says why an ADD cannot be served now, or nil.
	Ready func() error
	// Quarantine takes devices that cannot be given back at DEL; nil keeps their
	// records, and DEL fails until they can.
	Quarantine Quarantine
	// Claim gets slots of the addresses that the whole cluster shares; nil refuses
	// networks that need one.
	Claim Claimer
	// Prober asks whether addresses in doubt are in use; nil uses them unasked.
	Prober Prober
	// Flat reads the file in which whereabouts has its defaults on this node: a bare
	// ipam object, nil for none.
	Flat func() (json.RawMessage, error)
	// Files opens the address files of a network below dataDir, or says why this
	// daemon does not see them as the host's plugins do; nil for never. Default
	// networks of type bridge are executed then.
	Files func(dataDir, network string) (AddressFiles, error)
	// Flights records how calls go; nil for none.
	Flights Flights
	// Leases serves the ipam type dhcp.
	Leases Leases
	// BootID is the kernel's id of this boot (/proc/sys/kernel/random/boot_id).
	BootID string
	Log    *slog.Logger

	// Node is the node's say in networks, as it is now; nil for the defaults.
	Node func() netconf.Node
	// Find reads a network from disk: by its name, or, with a '/' in it, the path
	// of a file or directory.
	Find func(name string) (netconf.Network, error)
	// Await returns once the default network says that it is there, or with the
	// reason why it is not; ADD and GC wait for it.
	Await func(ctx context.Context) error
	// DefaultRoutes serves the key default-route.
	DefaultRoutes DefaultRoutes
	// DeviceInfo serves the device-info files.
	DeviceInfo DeviceInfo
	// Sweep removes at once what many links of one pod have in common, before
	// each of them is detached. It need not do anything: Detach is what counts.
	Sweep func(ctx context.Context, ns *os.File, records []Record, log *slog.Logger) error
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
