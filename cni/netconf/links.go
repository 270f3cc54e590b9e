package netconf

// Macvlan is the configuration of a macvlan attachment, defaults applied.
type Macvlan struct {
	// Master is the parent's name or altname; empty means the link of the first
	// default route in the namespace chosen by LinkInContainer.
	Master string
	// Mode is bridge, private, vepa or passthru.
	Mode string
	// MTU 0 means the parent's.
	MTU int
	// MAC asked for by the configuration itself, lower case; "" for none.
	MAC             string
	LinkInContainer bool
	// BcQueueLen 0 leaves the kernel's default (1000).
	BcQueueLen uint32
}

// Ipvlan is the configuration of an ipvlan attachment, defaults applied.
type Ipvlan struct {
	Master string
	// Mode is l2, l3 or l3s.
	Mode string
	// Flag says whether the children of a master reach each other: bridge, or
	// private, or vepa, through an outer switch only (kernel doc
	// networking/ipvlan). Like the mode it belongs to the master.
	Flag            string
	MTU             int
	LinkInContainer bool
}

// Sriov is the configuration of an SR-IOV VF attachment. A nil pointer means
// "leave the VF's value alone"; a value, zero included, is written and undone.
type Sriov struct {
	VLAN *int // 0..4094
	QoS  *int // 0..7, only with VLAN
	// Proto is 802.1q or 802.1ad, only with VLAN.
	Proto    *string
	MAC      string
	SpoofChk *bool
	Trust    *bool
	// LinkState is auto, enable or disable.
	LinkState *string
	// MinTxRate and MaxTxRate are Mbit/s, 0 for no limit.
	MinTxRate, MaxTxRate *int
	// MTU 0 leaves the VF's MTU alone.
	MTU int
	// Promisc and Allmulti set the flags of the VF's network device in the pod.
	// Whether the VF then gets more depends on the PF: most want trust for it.
	Promisc, Allmulti bool
}
