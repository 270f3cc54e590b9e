package vf

import (
	"reflect"
	"slices"
	"strings"
)

// PF is a network function that is not itself a VF: the physical function of an
// SR-IOV NIC, or any other PCI network device (TotalVFs 0).
type PF struct {
	Addr Addr
	// Netdev is the name of its network device in the host's namespace, empty
	// if it has none there. AltNames are that device's alternative names.
	Netdev   string
	AltNames []string
	// Ports are the network devices of further ports behind the same function, as
	// some NICs have them, sorted; the representors of VFs are none.
	Ports []string
	// Vendor and Device are the PCI ids, four lower-case hex digits.
	Vendor, Device string
	Driver         string
	// NUMANode is -1 when the firmware does not say.
	NUMANode int
	// LinkType is the kernel's encapsulation name ("ether", "infiniband").
	LinkType string
	MTU      int
	// AdminUp says that somebody set the device up, LinkUp that it has carrier.
	AdminUp, LinkUp  bool
	MAC              string
	TotalVFs, NumVFs int
	// Autoprobe says whether new VFs get a driver by themselves.
	Autoprobe bool
	// IOMMUGroup is the number in /dev/vfio/<group>, or -1.
	IOMMUGroup int
	// Accelerator says that the function is no network controller but a
	// processing accelerator (PCI base class 12).
	Accelerator bool
	// ACPIIndex is the firmware's number for the port, as acpi_index has it;
	// empty for none.
	ACPIIndex string
	// RDMA are the names of its RDMA devices, sorted.
	RDMA []string
	// PKey is the default partition key (index 0 of port 1 of the first RDMA
	// device) in the kernel's form, 0xffff; empty where there is none.
	PKey string
	// DDPProfile is the name of the package that the NIC's firmware has loaded
	// (devlink, fw.app.name); empty for none.
	DDPProfile string
	Userspace  Userspace
}

// Userspace is what programs open to use a function without a network device.
type Userspace struct {
	// RDMA are the nodes in /dev/infiniband of the function's own: uverbs0,
	// umad0, issm0. Unlike the RDMA device they stay in sight when the device is
	// moved to a pod's namespace.
	RDMA []string
	// UIO is the node in /dev, such as uio0; empty for none.
	UIO string
	// NoIOMMU says that the IOMMU group is one of vfio's own for machines without
	// an IOMMU (name vfio-noiommu): the node is /dev/vfio/noiommu-<group>.
	NoIOMMU bool
	VDPA    VDPA
}

// VDPA is a function's vDPA device (/sys/bus/vdpa/devices). The zero VDPA is
// none.
type VDPA struct {
	// Name is that of the device, such as vdpa0 or vdpa:0000:01:10.0.
	Name string
	// Driver is vhost_vdpa or virtio_vdpa, empty for none bound.
	Driver string
	// Node is the node in /dev of one on vhost_vdpa, such as vhost-vdpa-0.
	Node string
}

// Aux is a device of the auxiliary bus that a PF has beside its functions, such
// as a subfunction (mlx5_core.sf.4). Its identity is its name.
type Aux struct {
	// Name is <module>.<type>.<id>.
	Name string
	// PF is the PCI function that it belongs to.
	PF Addr
	// Index is the number of a subfunction (sfnum), and -1 where there is none.
	Index int
	// Netdev is as in VF.
	Netdev    string
	Driver    string
	NUMANode  int
	LinkType  string
	MTU       int
	RDMA      []string
	Userspace Userspace
}

// Type returns the middle part of the name, such as sf.
func (a Aux) Type() string {
	_, rest, _ := strings.Cut(a.Name, ".")
	kind, _, _ := strings.Cut(rest, ".")
	return kind
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
	// Accelerator, ACPIIndex, RDMA, PKey and Userspace are as in PF.
	Accelerator bool
	ACPIIndex   string
	RDMA        []string
	PKey        string
	Userspace   Userspace
}

// Snapshot is the inventory at one moment. It is immutable once published: PFs
// and VFs are sorted by address, Aux by name.
type Snapshot struct {
	// Generation grows with every published change.
	Generation uint64
	PFs        []PF
	VFs        []VF
	Aux        []Aux
}

// PF returns the PF at a.
func (s *Snapshot) PF(a Addr) (PF, bool) {
	i, ok := slices.BinarySearchFunc(s.PFs, a, func(p PF, a Addr) int { return p.Addr.Compare(a) })
	if !ok {
		return PF{}, false
	}
	return s.PFs[i], true
}

// VF returns the VF at a.
func (s *Snapshot) VF(a Addr) (VF, bool) {
	i, ok := slices.BinarySearchFunc(s.VFs, a, func(v VF, a Addr) int { return v.Addr.Compare(a) })
	if !ok {
		return VF{}, false
	}
	return s.VFs[i], true
}

// Of returns the VFs of the PF at a, by index.
func (s *Snapshot) Of(a Addr) []VF {
	var out []VF
	for _, v := range s.VFs {
		if v.PF == a && v.Index >= 0 {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(x, y VF) int { return x.Index - y.Index })
	return out
}

// Equal compares all but the generation.
func (s *Snapshot) Equal(o *Snapshot) bool {
	return slices.EqualFunc(s.PFs, o.PFs, func(x, y PF) bool { return reflect.DeepEqual(x, y) }) &&
		slices.EqualFunc(s.VFs, o.VFs, VF.Equal) &&
		slices.EqualFunc(s.Aux, o.Aux, func(x, y Aux) bool { return reflect.DeepEqual(x, y) })
}

// Equal reports whether v and w are the same in every field. There may be a
// thousand VFs: what is cheap to compare is compared first.
func (v VF) Equal(w VF) bool {
	return v.Addr == w.Addr && v.Driver == w.Driver && v.Netdev == w.Netdev && reflect.DeepEqual(v, w)
}
