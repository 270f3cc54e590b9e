package netns

import (
	"net/netip"

	"github.com/tendril-cni/tendril/cni"
)

// Group is the link group (IFLA_GROUP, see ip-link(8)) of every link that
// Tendril makes inside a pod, so that all of them can be deleted by one message:
// deleting costs the kernel some 20 ms however many links one message names.
// VFs are moved and not made, and a link without a delete operation would spoil
// the whole group, so they are never put into it.
const Group = 0x74656e64

// Link is a network device as the kernel described it (RTM_NEWLINK, rtnetlink(7)).
type Link struct {
	Index int
	Name  string
	// AltNames are the alternative names, at most 127 bytes each.
	AltNames []string
	// Alias is the free text of IFLA_IFALIAS, at most 255 bytes.
	Alias string
	// Kind is IFLA_INFO_KIND ("macvlan", "veth"); empty for physical devices and VFs.
	Kind string
	// MAC is the hardware address in lower-case colon form; empty if it has none.
	MAC string
	// PermMAC is the address burnt in or set by the PF; empty where the driver
	// does not say.
	PermMAC string
	MTU     int
	// Type is the ARPHRD_ number of linux/if_arp.h: 1 Ethernet, 32 InfiniBand.
	Type uint16
	// Flags are the IFF_ bits of netdevice(7).
	Flags uint32
	// OperState is RFC 2863 ifOperStatus as in linux/if.h: 0 unknown, 2 down,
	// 3 lower layer down, 5 dormant, 6 up.
	OperState uint8
	Group     uint32
	// Parent is the index of the device below (IFLA_LINK), 0 for none. It counts
	// in this link's own namespace when ParentNSID is -1, and in the namespace of
	// that id otherwise.
	Parent     int
	ParentNSID int
	// Master is the index of the bridge, bond or VRF above, 0 for none, and
	// SlaveKind the kind of that device as far as the kernel names it.
	Master    int
	SlaveKind string
	// ParentBus and ParentDev are the bus device behind the link, for example
	// "pci" and "0000:01:10.2" (Linux 5.14 and later; empty before).
	ParentBus, ParentDev string
	// Data are the attributes inside IFLA_INFO_DATA, for the driver of Kind.
	Data []Attr
}

// Attr is one netlink attribute: its type and its payload without header.
type Attr struct {
	Type  uint16
	Value []byte
}

// Spec is a link to be made.
type Spec struct {
	// Name is the final name, Kind the driver ("macvlan").
	Name, Kind string
	// Parent is the index of the device below, 0 for none. It is looked up in
	// the Conn's namespace, or in the daemon's own when ParentInHost is set.
	Parent       int
	ParentInHost bool
	// Mark is stored as the link's alias and says whose it is; see Mark.
	Mark string
	// Data are the attributes of the kind.
	Data []Attr
	// Peer is the far end of a link of kind veth; nil for other kinds.
	Peer *Peer
	// Setup is applied in the same system call where the kernel allows it.
	Setup Setup
}

// Peer is the far end of a veth. It is made in the daemon's own namespace by the
// message that makes the near end, and down: the kernel takes no flags for it.
type Peer struct {
	Name string
	// MTU 0 takes the kernel's default.
	MTU int
}

// Setup is what a link shall be. Zero fields are left alone.
type Setup struct {
	// MAC in colon form. MTU in bytes.
	MAC string
	MTU int
	// Addresses are added in this order; the first of an IPv4 subnet is the
	// primary one. Their gateways are not looked at: Routes has the routes.
	Addresses []cni.Address
	Routes    []cni.Route
	// Vouched says that whoever chose the addresses guarantees that no one else
	// has them: IPv6 addresses then skip duplicate address detection (RFC 4862)
	// and are announced at once. Otherwise the detection is waited for.
	Vouched bool
	// Up brings the link up, after the addresses and before the routes.
	Up bool
}

// Target is where Move takes a link to.
type Target struct {
	// Name is the link's name there. Empty keeps the name it has.
	Name string
	// MAC and MTU are set in the same message when they are not zero. The kernel
	// applies them after the move, so an error may leave the link moved.
	MAC string
	MTU int
}

// Owner says which link belongs to an attachment, for Remove.
type Owner struct {
	// Name is the link's name and Kind its driver.
	Name, Kind string
	// Mark is the alias that Create gave it.
	Mark string
	// Index is the index that was observed after Create, or 0 if none was.
	Index int
}

// hasIPv6 reports whether one of the addresses is an IPv6 one.
func hasIPv6(as []cni.Address) bool {
	for _, a := range as {
		if is6(a.Prefix.Addr()) {
			return true
		}
	}
	return false
}

func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }
