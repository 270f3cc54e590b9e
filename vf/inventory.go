package vf

// PF is a network function that is not itself a VF: the physical function of an
// SR-IOV NIC, or any other PCI network device (TotalVFs 0).
type PF struct {
	Addr Addr
	// Netdev is the name of its network device in the host's namespace, empty
	// if it has none there. AltNames are that device's alternative names.
	Netdev   string
	AltNames []string
	// Vendor and Device are the PCI ids, four lower-case hex digits.
	Vendor, Device string
	Driver         string
	// NUMANode is -1 when the firmware does not say.
	NUMANode int
	// LinkType is the kernel's encapsulation name ("ether", "infiniband").
	LinkType         string
	MTU              int
	LinkUp           bool
	MAC              string
	TotalVFs, NumVFs int
	Autoprobe        bool
}

// VF is one virtual function. Its identity is its PCI address: nothing here is
// derived from a netdev name, because a VF inside a pod shows none on the host.
type VF struct {
	Addr  Addr
	PF    Addr
	Index int
	// Netdev is the name of the VF's network device as the host's namespace
	// shows it; empty while the VF is in a pod or has no network driver.
	Netdev         string
	Vendor, Device string
	// Driver is the bound driver's name, empty when none is bound.
	Driver   string
	NUMANode int
	// IOMMUGroup is the number in /dev/vfio/<group>, or -1.
	IOMMUGroup int
	LinkType   string
	MTU        int
}

// Snapshot is the inventory at one moment. It is immutable once published: PFs
// and VFs are sorted by address.
type Snapshot struct {
	// Generation grows with every published change.
	Generation uint64
	PFs        []PF
	VFs        []VF
}

// PF returns the PF at a.
func (s *Snapshot) PF(a Addr) (PF, bool) {
	for _, p := range s.PFs {
		if p.Addr == a {
			return p, true
		}
	}
	return PF{}, false
}

// VF returns the VF at a.
func (s *Snapshot) VF(a Addr) (VF, bool) {
	for _, v := range s.VFs {
		if v.Addr == a {
			return v, true
		}
	}
	return VF{}, false
}
