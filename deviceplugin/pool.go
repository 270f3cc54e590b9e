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
	// VhostNet and Tun tell whether /dev/vhost-net and /dev/net/tun exist.
	VhostNet, Tun bool
}

// Device is one function in a pool.
type Device struct {
	// ID is what the kubelet and the pod see: the PCI address in sysfs form.
	ID   string
	Addr vf.Addr
	// PF is the physical function of a VF, and the zero Addr for a device that
	// is not a VF.
	PF vf.Addr
	// Index is the VF number from 0, and -1 for a device that is not a VF.
	Index int
	// Driver is the bound driver, empty for none.
	Driver string
	// NUMANode is -1 when the firmware does not say.
	NUMANode int
	// IOMMUGroup is the number in /dev/vfio/<group>, or -1.
	IOMMUGroup int
	// VhostNet adds /dev/vhost-net and /dev/net/tun.
	VhostNet bool
	// Cause says why the device is unhealthy; it is empty for a healthy one.
	Cause string
}

// Healthy reports whether the device may be given out.
func (d Device) Healthy() bool { return d.Cause == "" }

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
	vendor, device, linkType string
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
// unhealthy, so that they can be seen. Of the physical functions only those
// without VFs are candidates, and of these only what Host.Owns leaves free.
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
	for i := range devices {
		c := &devices[i]
		n := slices.IndexFunc(res.Selectors, func(s Selector) bool { return s.matches(c) })
		if n < 0 {
			continue
		}
		if first, taken := owner[c.ID]; taken {
			p.Overlaps[c.ID] = first
			continue
		}
		owner[c.ID] = res.String()
		d := c.Device
		d.VhostNet = res.Selectors[n].VhostNet
		p.index[d.ID] = len(p.Devices)
		p.Devices = append(p.Devices, d)
	}
	return p
}

// candidates lists what may be claimed, by address.
func candidates(snap *vf.Snapshot, host Host) []candidate {
	if snap == nil {
		return nil
	}
	list := make([]candidate, 0, len(snap.VFs)+len(snap.PFs))
	pfs := make(map[vf.Addr]*vf.PF, len(snap.PFs))
	for i := range snap.PFs {
		pf := &snap.PFs[i]
		pfs[pf.Addr] = pf
		if pf.NumVFs == 0 && host.Owns != nil && host.Owns(*pf) == "" {
			list = append(list, physical(pf, host))
		}
	}
	for i := range snap.VFs {
		v := &snap.VFs[i]
		list = append(list, virtual(v, pfs[v.PF], host))
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.Addr.Compare(b.Addr) })
	return list
}

func physical(pf *vf.PF, host Host) candidate {
	c := candidate{
		Device: Device{
			ID: pf.Addr.String(), Addr: pf.Addr, Index: -1,
			Driver: pf.Driver, NUMANode: pf.NUMANode, IOMMUGroup: -1,
		},
		vendor: pf.Vendor, device: pf.Device, linkType: pf.LinkType,
	}
	c.Cause = cause(c.Device, host)
	return c
}

// virtual makes a candidate of v; pf is nil where the inventory lacks it.
func virtual(v *vf.VF, pf *vf.PF, host Host) candidate {
	c := candidate{
		Device: Device{
			ID: v.Addr.String(), Addr: v.Addr, PF: v.PF, Index: v.Index,
			Driver: v.Driver, NUMANode: v.NUMANode, IOMMUGroup: v.IOMMUGroup,
		},
		vendor: v.Vendor, device: v.Device, linkType: v.LinkType,
	}
	if pf != nil {
		c.pfNames = append(c.pfNames, pf.AltNames...)
		if pf.Netdev != "" {
			c.pfNames = append(c.pfNames, pf.Netdev)
		}
		if c.linkType == "" {
			c.linkType = pf.LinkType
		}
	}
	c.Cause = cause(c.Device, host)
	return c
}

// Drivers that hand a device to user space.
const (
	driverVFIO   = "vfio-pci"
	driverUIO    = "uio"
	driverIGBUIO = "igb_uio"
)

// cause says why d cannot be given out, or "". A device whose nodes are not
// known is held back: a pod that got it would start without it.
func cause(d Device, host Host) string {
	switch {
	case d.Driver == "":
		return "no driver is bound"
	case d.Driver == driverVFIO && d.IOMMUGroup < 0:
		return "bound to vfio-pci, but its IOMMU group is not known"
	case d.Driver == driverUIO || d.Driver == driverIGBUIO:
		return "bound to " + d.Driver + ", whose device nodes are not served yet; use vfio-pci"
	case host.Unfit != nil:
		return host.Unfit(d.Addr)
	}
	return ""
}

// same reports whether two pools tell and hand out the same.
func (p *Pool) same(q *Pool) bool {
	return slices.Equal(p.Devices, q.Devices) && maps.Equal(p.Overlaps, q.Overlaps) &&
		p.host.VhostNet == q.host.VhostNet && p.host.Tun == q.host.Tun &&
		p.Resource.ExcludeTopology == q.Resource.ExcludeTopology &&
		maps.EqualFunc(p.Resource.AdditionalInfo, q.Resource.AdditionalInfo, maps.Equal[map[string]string])
}
