package inspect

import (
	"encoding/json"
	"time"

	"github.com/tendril-cni/tendril/vf"
)

// The paths.
const (
	PathAttachments = "/attachments" // []Attachment
	PathVFs         = "/vfs"         // Inventory
	PathAddresses   = "/addresses"   // Addresses
	PathPools       = "/pools"       // Pools
	PathNetworks    = "/networks"    // Networks
	PathDoctor      = "/doctor"      // Host
	PathObserved    = "/observed"    // Observed
	// PathTraces takes the queries pod=namespace/name, verb=ADD, failed=true and
	// last=N, each of which narrows it.
	PathTraces = "/traces" // []Trace
	// PathSeveral answers several paths at once, each of which is a query path=...:
	// a question is a process on the node.
	PathSeveral = "/several" // map[string]One, by path
)

// One is the answer to one of several paths.
type One struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	// Error is why there is no answer.
	Error string `json:"error,omitempty"`
}

// Trace is what is looked at of one call in the node's flight recorder, whose own
// trace (package flight) has more.
type Trace struct {
	Call string `json:"call"`
	Verb string `json:"verb"`
	// Pod has of the pod what its name does not tell.
	Pod TracePod `json:"pod,omitzero"`
	// Start is the call's; Error is empty for one that succeeded, or Running.
	Start   time.Time `json:"start"`
	Running bool      `json:"running,omitempty"`
	Error   string    `json:"error,omitempty"`
	// Repeats is how many calls before it failed in the same way.
	Repeats int         `json:"repeats,omitempty"`
	Steps   []TraceStep `json:"steps,omitempty"`
}

// TracePod is the pod of a call. UID is empty where the runtime did not tell.
type TracePod struct {
	UID string `json:"uid,omitempty"`
}

// TraceStep is one part of a call, of one attachment if it has an Interface.
type TraceStep struct {
	Name      string `json:"name"`
	Network   string `json:"network,omitempty"`
	Interface string `json:"interface,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Attachment is one interface of one pod, as the node's journal has it.
type Attachment struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid,omitempty"`
	// Container is the id of the pod's sandbox.
	Container string `json:"container"`
	Interface string `json:"interface"`
	// Network is "namespace/name" of a definition, or the name of the default
	// network.
	Network string `json:"network"`
	Default bool   `json:"default,omitempty"`
	// Kind is sriov, macvlan, ... or exec for plugins that run as executables.
	Kind string `json:"kind"`
	// Phase is the last step that is recorded: intent, attached, or plugging.
	Phase    string `json:"phase"`
	Resource string `json:"resource,omitempty"`
	// Device is a PCI address in sysfs form.
	Device string `json:"device,omitempty"`
	MAC    string `json:"mac,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	// Addresses are CIDRs.
	Addresses []string `json:"addresses,omitempty"`
	Netns     string   `json:"netns,omitempty"`
	// Imported says that another meta-plugin made it.
	Imported bool `json:"imported,omitempty"`
}

// States of a VF.
const (
	Free        = "free"
	Used        = "used"       // a pod has it
	Quarantined = "quarantine" // not at its baseline after its last pod
	Unfit       = "unfit"      // must not be given out, for another cause
	HostOwned   = "host"       // the host uses it
)

// PF is one physical function with SR-IOV.
type PF struct {
	// Name of its network device, empty for none.
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	Vendor  string `json:"vendor,omitempty"`
	Device  string `json:"device,omitempty"`
	Driver  string `json:"driver,omitempty"`
	// NUMANode is -1 when the firmware does not say.
	NUMANode int  `json:"numaNode"`
	TotalVFs int  `json:"totalVFs"`
	NumVFs   int  `json:"numVFs"`
	LinkUp   bool `json:"linkUp"`
	// Claim is what the host itself uses it for, empty for nothing.
	Claim string `json:"claim,omitempty"`
}

// VF is one virtual function.
type VF struct {
	// PF is the name of the PF's network device, or its address.
	PF       string `json:"pf"`
	Index    int    `json:"index"`
	Address  string `json:"address"`
	NUMANode int    `json:"numaNode"`
	Driver   string `json:"driver,omitempty"`
	// MAC and VLAN are what the PF reports; MAC is empty where it does not.
	MAC  string `json:"mac,omitempty"`
	VLAN int    `json:"vlan,omitempty"`
	// Resource is the pool, Policy the VFPolicy, that it is in.
	Resource string `json:"resource,omitempty"`
	Policy   string `json:"policy,omitempty"`
	// State is one of the constants above, Why its cause where it is not free.
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Pod is "namespace/name" of who has it, Interface and Network where.
	Pod       string `json:"pod,omitempty"`
	Interface string `json:"interface,omitempty"`
	Network   string `json:"network,omitempty"`
}

// Inventory is the answer of PathVFs, sorted by address.
type Inventory struct {
	PFs []PF `json:"pfs"`
	VFs []VF `json:"vfs"`
	// Incomplete says what could not be seen.
	Incomplete string `json:"incomplete,omitempty"`
}

// Held is one address of an attachment.
type Held struct {
	// Network is as in Attachment, Address a CIDR.
	Network   string `json:"network"`
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Interface string `json:"interface"`
}

// Space is what the node has of one cluster-wide address space, in addresses.
type Space struct {
	Name string `json:"name"`
	// Held are with attachments, Idle can be handed out, Cooling were freed a
	// moment ago, Away are on the way back or set aside.
	Held    int `json:"held"`
	Idle    int `json:"idle"`
	Cooling int `json:"cooling"`
	Away    int `json:"away"`
	// Unsettled is how many blocks the API server has to be asked about.
	Unsettled int `json:"unsettled"`
}

// Addresses is the answer of PathAddresses.
type Addresses struct {
	Held   []Held  `json:"held"`
	Spaces []Space `json:"spaces,omitempty"`
}

// Pool is one extended resource that the node offers.
type Pool struct {
	Resource string   `json:"resource"`
	Type     string   `json:"type"`
	Devices  []Device `json:"devices"`
}

// Device is one device of a pool.
type Device struct {
	ID     string `json:"id"`
	Driver string `json:"driver,omitempty"`
	// Unhealthy says why it is not offered; empty means that it is.
	Unhealthy string `json:"unhealthy,omitempty"`
}

// Pools is the answer of PathPools.
type Pools struct {
	Pools []Pool `json:"pools"`
	// Refused says, by its source (file, policies), which configuration is not in
	// force and why.
	Refused map[string]string `json:"refused,omitempty"`
}

// Network is a network by its name and the types of its plugins.
type Network struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}

// Networks is the answer of PathNetworks: what the node itself says of networks.
type Networks struct {
	// Default is the cluster's default network as it is now, nil with DefaultError.
	Default      *Network `json:"default,omitempty"`
	DefaultError string   `json:"defaultError,omitempty"`
	// Kinds are the plugin types that are served in process.
	Kinds []string `json:"kinds"`
	// Everyone are the networks that every pod gets beside the default one.
	Everyone  []string `json:"everyone,omitempty"`
	Isolation bool     `json:"isolation,omitempty"`
	Global    []string `json:"global,omitempty"`
	// Idle are keys of the configuration that mean nothing.
	Idle []string `json:"idle,omitempty"`
}

// ConfFile is one file of the runtime's CNI directory.
type ConfFile struct {
	Name    string   `json:"name"`
	Network string   `json:"network,omitempty"`
	Types   []string `json:"types,omitempty"`
	Error   string   `json:"error,omitempty"`
	// Own is set for Tendril's file.
	Own bool `json:"own,omitempty"`
}

// Host is the answer of PathDoctor: facts, without a judgement.
type Host struct {
	Version string `json:"version"`
	Node    string `json:"node"`
	// Started is when the daemon started.
	Started time.Time `json:"started"`
	// NotReady says why an ADD could not be served now; empty means that it could.
	NotReady string `json:"notReady,omitempty"`
	Kernel   string `json:"kernel"`
	// Parameters are those of the kernel's command line that devices depend on.
	Parameters []string `json:"parameters,omitempty"`
	// IOMMUGroups is how many the kernel has; 0 means that the IOMMU is off.
	IOMMUGroups int `json:"iommuGroups"`
	// Modules says of each kernel module that networks may need whether the kernel
	// has it now. Most are loaded when they are needed first.
	Modules map[string]bool `json:"modules"`
	// PodResources is the error of asking the kubelet which pod has which device.
	PodResources string `json:"podResources,omitempty"`
	// KubeletRoot and the CNI directories are as the daemon was told.
	KubeletRoot string `json:"kubeletRoot"`
	CNIConfDir  string `json:"cniConfDir"`
	CNIBinDir   string `json:"cniBinDir"`
	// ConfFiles are in the order in which the runtime looks: it takes the first.
	ConfFiles []ConfFile `json:"confFiles"`
	// Plugins are the executables of CNIBinDir.
	Plugins []string `json:"plugins"`
	// Attachments is how many the journal has, Unfinished how many of them were
	// begun and are not done, Spooled how many DELs are owed.
	Attachments int `json:"attachments"`
	Unfinished  int `json:"unfinished"`
	Spooled     int `json:"spooled"`
}

// Observed is the answer of PathObserved: all that a plan of VF policies is made
// of (vf.Plan).
type Observed struct {
	vf.Observed
	// Users says who uses which VF, by its address.
	Users map[string]string `json:"users"`
	// Incomplete says what could not be seen.
	Incomplete string `json:"incomplete,omitempty"`
}
