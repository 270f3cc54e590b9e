package cni

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// Kinds of attachment. A native kind is served by a Driver in process; Exec is
// everything that runs as a CNI executable in the runtime's context.
const (
	KindSriov   = "sriov"
	KindMacvlan = "macvlan"
	KindIpvlan  = "ipvlan"
	KindExec    = "exec"
)

// PodRef names one pod for its whole life. UID is the API server's
// metadata.uid; for static pods it is the hash the kubelet made.
type PodRef struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// String returns "namespace/name".
func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

// LogValue implements slog.LogValuer.
func (p PodRef) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Netns identifies a network namespace across processes: the path under which
// the runtime mounted it, and device and inode of the namespace itself, so that
// a path that was reused by another pod is never mistaken for this one.
type Netns struct {
	Path   string `json:"path,omitempty"`
	Device uint64 `json:"device,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
}

// Address is one address of an attachment. Gateway is the zero Addr where the
// network has none.
type Address struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Route is a route of the pod through the attachment's interface. A zero Via is
// a route to the device itself. MTU, Priority, Table, Scope and AdvMSS follow
// CNI 1.1 (result.routes); zero means unset, Scope and Table nil mean unset.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Via      netip.Addr   `json:"via,omitzero"`
	MTU      int          `json:"mtu,omitempty"`
	AdvMSS   int          `json:"advmss,omitempty"`
	Priority int          `json:"priority,omitempty"`
	Table    *int         `json:"table,omitempty"`
	Scope    *int         `json:"scope,omitempty"`
}

// Attachment is one interface of one pod, fully decided: what Plan returns, what
// the journal stores, and all that a Driver may look at. It is a value; nothing
// in it is resolved again later, so DEL needs nothing else.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	// Call is the CNI_IFNAME of the ADD that this attachment belongs to; a DEL
	// with the same name undoes it.
	Call  string `json:"call"`
	Pod   PodRef `json:"pod"`
	Netns Netns  `json:"netns"`
	// Network is "namespace/name" of the definition, or the CNI network name of
	// the default network.
	Network string `json:"network"`
	// Default marks the pod's default network (eth0).
	Default bool   `json:"default,omitempty"`
	Kind    string `json:"kind"`
	// Config is the network's configuration as a CNI list, complete with name
	// and cniVersion. Foreign executables get it; native kinds keep it for CHECK.
	Config netconf.Network `json:"config"`
	// CNIArgs are the CNI_ARGS for foreign executables ("K=V;K=V").
	CNIArgs string `json:"cniArgs,omitempty"`
	// RuntimeConfig holds capability arguments for foreign executables, by
	// capability name.
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig,omitempty"`
	// Resource and Device are the extended resource and the device (a PCI
	// address in sysfs form) that this attachment was given.
	Resource string `json:"resource,omitempty"`
	Device   string `json:"device,omitempty"`
	// MAC is the hardware address asked for, in lower-case colon form; empty
	// lets the kernel choose.
	MAC       string    `json:"mac,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// Vouched says that Tendril's own IPAM guarantees that no one else has the
	// addresses: IPv6 ones are then used without duplicate address detection.
	Vouched bool `json:"vouched,omitempty"`
	// Suspect are those of Addresses that something else may have: they are probed
	// before they are used.
	Suspect []netip.Addr `json:"suspect,omitempty"`
	// Claim is "namespace/name" of the IPAMClaim whose addresses these are; empty
	// for addresses that go with the attachment.
	Claim  string      `json:"claim,omitempty"`
	Routes []Route     `json:"routes,omitempty"`
	DNS    netconf.DNS `json:"dns,omitzero"`
	// Leased says that the addresses come from the network's own servers, through
	// the interface once it is there (ipam type dhcp).
	Leased bool `json:"leased,omitempty"`
	// Filed is the directory (dataDir) in whose files the addresses are, under the
	// network's name, as the reference host-local keeps them; empty for addresses
	// that the journal has. They are known once the interface is attached.
	Filed string `json:"filed,omitempty"`
	// Gateways are the pod's default routes that this attachment provides, at
	// most one a family over all attachments of a pod.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Selection is what the pod asked for; nil for a network that the node's
	// configuration gives it.
	Selection *netconf.Element `json:"selection,omitempty"`
}

// Link is what was observed in the pod after an attach.
type Link struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	MAC   string `json:"mac,omitempty"`
	MTU   int    `json:"mtu,omitempty"`
	// PCI is the PCI address behind the link, for VFs.
	PCI string `json:"pci,omitempty"`
}

// Record is an attachment's line in the journal. Phase only moves forward; a
// record is removed only after its detach was observed.
type Record struct {
	Attachment Attachment `json:"attachment"`
	// Order is the position in which ADD attaches; DEL goes backwards.
	Order int   `json:"order"`
	Phase Phase `json:"phase"`
	// Prior is the driver's own note of what Attach changes and Detach gives
	// back. Only the driver that wrote it reads it.
	Prior json.RawMessage `json:"prior,omitempty"`
	// Notes are the same of the later plugins of a native chain, one each.
	Notes []json.RawMessage `json:"notes,omitempty"`
	// Link and Result are set once attached. Result is the CNI result of a
	// foreign chain, in version 1.0 or later.
	Link   Link            `json:"link,omitzero"`
	Result json.RawMessage `json:"result,omitempty"`
	// Host are the links on the host that the CNI result names: a bridge, the
	// host's end of a pair, and what else the kind has.
	Host []Link `json:"host,omitempty"`
	// DeviceInfo is the device-info specification's object, set once attached.
	DeviceInfo json.RawMessage `json:"deviceInfo,omitempty"`
	// Displaced is the note of DefaultRoutes.Prior about the default routes that
	// gave way to Attachment.Gateways.
	Displaced json.RawMessage `json:"displaced,omitempty"`
	// Imported marks an attachment that another meta-plugin made and Tendril took
	// over: what the pod asked for is known only in part.
	Imported bool `json:"imported,omitempty"`
}

// Phase is how far an attachment has come. See also Plugging.
type Phase string

// The phases of a record.
const (
	// Intent: recorded, and the kernel may or may not have been touched.
	Intent Phase = "intent"
	// Attached: observed in the pod.
	Attached Phase = "attached"
)

// Driver makes and removes one native kind of interface. Implementations hold
// no per-attachment state: the record has it all. All methods may be called
// concurrently for different containers.
type Driver interface {
	// Prior reads, and does not change, what Attach will alter and Detach must
	// give back. It refuses (refusal.Refusal) what the host or the device cannot
	// do, before anything is recorded. The result is stored in Record.Prior
	// before Attach is called.
	Prior(ctx context.Context, a Attachment) (json.RawMessage, error)
	// Attach makes the interface in ns with its final name, MAC, MTU, addresses
	// and routes, up, and returns what it then observed. On error the caller
	// runs Detach with the same record.
	Attach(ctx context.Context, ns *os.File, r Record) (Link, error)
	// Detach gives back everything Attach may have changed, from r alone. ns is
	// nil when the pod's network namespace is gone. It is idempotent: what is
	// absent is done. An error means "not yet": the record stays and Detach is
	// called again. It never touches anything that r does not own.
	Detach(ctx context.Context, ns *os.File, r Record) error
}

// Checker is what a Driver may also be.
type Checker interface {
	// Check compares what r says of an attached interface with the kernel. ns is
	// the pod's network namespace. It changes nothing; the error says what is
	// different.
	Check(ctx context.Context, ns *os.File, r Record) error
}
