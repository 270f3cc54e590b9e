package deviceplugin

import (
	"maps"
	"slices"

	"github.com/tendril-cni/tendril/vf"
)

// Host is what the pools depend on beside the inventory. Its functions are
// called only during Pools and answer from memory.
type Host struct {
	// Owns says in words why the host needs a physical function for itself: its
	// network device, or one above it, carries an address, a route or has a
	// master. It returns "" for one that is free. A nil Owns keeps all physical
	// functions out of the pools, VFs are not asked about.
	Owns func(vf.PF) string
	// Unfit says why a device must not be given out now, for example because
	// its settings are not back at their baseline; "" means it is fit. nil
	// means that all are.
	Unfit func(vf.Addr) string
	// Holder names who has the device, for example "pod blue/web as
	// intel.com/fast", when that is not a container which the kubelet gave it as
	// resource; "" means nobody else has. nil means nobody ever has.
	Holder func(id, resource string) string
	// VhostNet, Tun and RDMACM tell whether /dev/vhost-net, /dev/net/tun and
	// /dev/infiniband/rdma_cm exist.
	VhostNet, Tun, RDMACM bool
	// CDI says that the runtime finds device nodes in our CDI specification, so
	// that containers get the names in it instead of the nodes.
	CDI bool
}

// Device is one function in a pool.
type Device struct {
	// ID is what the kubelet and the pod see: the PCI address in sysfs form, or
	// the name of an auxiliary device.
	ID string
	// Addr is the zero Addr for an auxiliary device.
	Addr vf.Addr
	// PF is the physical function of a VF, the parent of an auxiliary device, and
	// the zero Addr for a device that is neither.
	PF vf.Addr
	// Index is the VF number from 0, the number of a subfunction, and -1 for a
	// device that is neither.
	Index int
	// Driver is the bound driver, empty for none.
	Driver string
	// NUMANode is -1 when the firmware does not say.
	NUMANode int
	// IOMMUGroup is the number in /dev/vfio/<group>, or -1.
	IOMMUGroup int
	// RDMA are the names of the RDMA devices.
	RDMA      []string
	Userspace vf.Userspace
	// VhostNet adds /dev/vhost-net and /dev/net/tun, WithRDMA the nodes of RDMA,
	// and VDPA ("vhost", "virtio", or empty) those of the vDPA device.
	VhostNet, WithRDMA bool
	VDPA               string
	// Cause says why the device is unhealthy; it is empty for a healthy one.
	Cause string
}

// Healthy reports whether the device may be given out.
func (d Device) Healthy() bool { return d.Cause == "" }

func (d Device) equal(e Device) bool {
	return d.ID == e.ID && d.PF == e.PF && d.Index == e.Index && d.Driver == e.Driver && d.NUMANode == e.NUMANode &&
		d.IOMMUGroup == e.IOMMUGroup && slices.Equal(d.RDMA, e.RDMA) && d.Userspace.UIO == e.Userspace.UIO &&
		slices.Equal(d.Userspace.RDMA, e.Userspace.RDMA) && d.Userspace.NoIOMMU == e.Userspace.NoIOMMU &&
		d.Userspace.VDPA == e.Userspace.VDPA && d.VhostNet == e.VhostNet && d.WithRDMA == e.WithRDMA &&
		d.VDPA == e.VDPA && d.Cause == e.Cause
}

// Pool is one resource with its devices at one moment. It is immutable: its
// slices and maps are shared and must not be changed.
type Pool struct {
	Resource Resource
	// Devices are sorted by address.
	Devices []Device
	// Overlaps are devices that this resource selects too, with the name of the
	// earlier resource that has them.
	Overlaps map[string]string

	host  Host
	index map[string]int
}

// Name returns the extended resource, "prefix/name".
func (p *Pool) Name() string { return p.Resource.String() }

// Device returns the device with that id.
func (p *Pool) Device(id string) (Device, bool) {
	i, ok := p.index[id]
	if !ok {
		return Device{}, false
	}
	return p.Devices[i], true
}

// candidate is a function with all that selectors ask about.
type candidate struct {
	Device
	kind                                                           Type
	vendor, device, linkType, acpiIndex, ddpProfile, pkey, auxType string
	// pfNames are name and altnames of the PF's network device.
	pfNames []string
}

// Pools sorts the functions of snap into one pool for each resource of cfg, in
// the order of cfg. Resources claim in file order and selectors in list order:
// a function goes to the first that matches. A resource that gets nothing has
// an empty pool. A nil snap is an empty inventory.
//
// VFs are candidates wherever they are: one that sits in a pod, and shows no
// network device on the host, keeps its place. VFs without a driver stay too,
// unhealthy, so that they can be seen, and so do those that another owner
// holds. Of the physical functions only those without VFs are candidates, and
// of these only what Host.Owns leaves free.
func Pools(cfg Config, snap *vf.Snapshot, host Host) []Pool {
	devices := candidates(snap, host)
	owner := make(map[string]string, len(devices))
	pools := make([]Pool, 0, len(cfg.Resources))
	for _, res := range cfg.Resources {
		pools = append(pools, claim(res, devices, owner, host))
	}
	return pools
}

func claim(res Resource, devices []candidate, owner map[string]string, host Host) Pool {
	p := Pool{Resource: res, Overlaps: map[string]string{}, host: host, index: map[string]int{}}
	name := res.String()
	for i := range devices {
		c := &devices[i]
		if c.kind != res.Type {
			continue
		}
		n := slices.IndexFunc(res.Selectors, func(s Selector) bool { return s.matches(c) })
		if n < 0 {
			continue
		}
		if first, taken := owner[c.ID]; taken {
			p.Overlaps[c.ID] = first
			continue
		}
		owner[c.ID] = name
		p.index[c.ID] = len(p.Devices)
		p.Devices = append(p.Devices, chosen(c.Device, &res.Selectors[n], name, host))
	}
	return p
}

// chosen is d as the selector s of the resource takes it.
func chosen(d Device, s *Selector, resource string, host Host) Device {
	d.VhostNet, d.WithRDMA, d.VDPA = s.VhostNet, s.RDMA, s.VDPA
	d.Cause = d.unusable()
	if d.Cause == "" && host.Unfit != nil && d.Addr.IsValid() {
		d.Cause = host.Unfit(d.Addr)
	}
	if d.Cause == "" && host.Holder != nil {
		if holder := host.Holder(d.ID, resource); holder != "" {
			d.Cause = "held by " + holder
		}
	}
	return d
}

// same reports whether two pools tell and hand out the same.
func (p *Pool) same(q *Pool) bool {
	return slices.EqualFunc(p.Devices, q.Devices, Device.equal) && maps.Equal(p.Overlaps, q.Overlaps) &&
		p.host.VhostNet == q.host.VhostNet && p.host.Tun == q.host.Tun && p.host.RDMACM == q.host.RDMACM &&
		p.host.CDI == q.host.CDI &&
		p.Resource.ExcludeTopology == q.Resource.ExcludeTopology && p.Resource.Policy == q.Resource.Policy &&
		maps.EqualFunc(p.Resource.AdditionalInfo, q.Resource.AdditionalInfo, maps.Equal[map[string]string])
}
