package deviceplugin

import (
	"cmp"
	"slices"

	"github.com/tendril-cni/tendril/vf"
)

// candidates lists what may be claimed: PCI functions by address, then auxiliary
// devices by name.
func candidates(snap *vf.Snapshot, host Host) []candidate {
	if snap == nil {
		return nil
	}
	list := make([]candidate, 0, len(snap.VFs)+len(snap.PFs)+len(snap.Aux))
	pfs := make(map[vf.Addr]*vf.PF, len(snap.PFs))
	for i := range snap.PFs {
		pf := &snap.PFs[i]
		pfs[pf.Addr] = pf
		if pf.NumVFs == 0 && host.Owns != nil && host.Owns(*pf) == "" {
			list = append(list, physical(pf))
		}
	}
	for i := range snap.VFs {
		v := &snap.VFs[i]
		list = append(list, virtual(v, pfs[v.PF]))
	}
	for i := range snap.Aux {
		a := &snap.Aux[i]
		list = append(list, auxiliary(a, pfs[a.PF]))
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), a.Addr.Compare(b.Addr), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func physical(pf *vf.PF) candidate {
	return candidate{
		Device: Device{
			ID: pf.Addr.String(), Addr: pf.Addr, Index: -1, Driver: pf.Driver, NUMANode: pf.NUMANode,
			IOMMUGroup: pf.IOMMUGroup, RDMA: pf.RDMA, Userspace: pf.Userspace,
		},
		kind:   class(pf.Accelerator),
		vendor: pf.Vendor, device: pf.Device, linkType: pf.LinkType,
		acpiIndex: pf.ACPIIndex, ddpProfile: pf.DDPProfile, pkey: pf.PKey,
	}
}

func class(accelerator bool) Type {
	if accelerator {
		return Accelerator
	}
	return NetDevice
}

// virtual makes a candidate of v; pf is nil where the inventory lacks it.
func virtual(v *vf.VF, pf *vf.PF) candidate {
	c := candidate{
		Device: Device{
			ID: v.Addr.String(), Addr: v.Addr, PF: v.PF, Index: v.Index, Driver: v.Driver, NUMANode: v.NUMANode,
			IOMMUGroup: v.IOMMUGroup, RDMA: v.RDMA, Userspace: v.Userspace,
		},
		kind:   class(v.Accelerator),
		vendor: v.Vendor, device: v.Device, linkType: v.LinkType, acpiIndex: v.ACPIIndex, pkey: v.PKey,
	}
	c.below(pf)
	return c
}

// auxiliary makes a candidate of a. Its PCI ids and its ACPI index are those of
// its parent, as the kernel gives it none.
func auxiliary(a *vf.Aux, pf *vf.PF) candidate {
	c := candidate{
		Device: Device{
			ID: a.Name, PF: a.PF, Index: a.Index, Driver: a.Driver, NUMANode: a.NUMANode,
			IOMMUGroup: -1, RDMA: a.RDMA, Userspace: a.Userspace,
		},
		kind: AuxNetDevice, auxType: a.Type(), linkType: a.LinkType,
	}
	if pf != nil {
		c.vendor, c.device, c.acpiIndex = pf.Vendor, pf.Device, pf.ACPIIndex
	}
	c.below(pf)
	return c
}

// below fills in what a device has from its PF.
func (c *candidate) below(pf *vf.PF) {
	if pf == nil {
		return
	}
	c.pfNames = pf.AltNames
	if pf.Netdev != "" {
		c.pfNames = append(slices.Clone(pf.AltNames), pf.Netdev)
	}
	if c.linkType == "" {
		c.linkType = pf.LinkType
	}
	c.ddpProfile = pf.DDPProfile
}

// Drivers that hand a device to user space. With uio_pci_generic the SR-IOV
// network device plugin gives no node, so that one without is no obstacle.
const (
	driverVFIO       = "vfio-pci"
	driverUIO        = "uio"
	driverIGBUIO     = "igb_uio"
	driverGenericUIO = "uio_pci_generic"
)

// unusable says why d cannot be given out, or "". A device whose nodes are not
// known is held back: a pod that got it would start without it.
func (d Device) unusable() string {
	switch {
	case d.Driver == "":
		return "no driver is bound"
	case d.Driver == driverVFIO && d.IOMMUGroup < 0:
		return "bound to vfio-pci, but its IOMMU group is not known"
	case (d.Driver == driverUIO || d.Driver == driverIGBUIO) && d.Userspace.UIO == "":
		return "bound to " + d.Driver + ", but it has no UIO device"
	case d.WithRDMA && len(d.Userspace.RDMA) == 0:
		return "its RDMA device has no nodes; is ib_uverbs loaded?"
	case d.VDPA == "vhost" && d.Userspace.VDPA.Node == "":
		return "its vDPA device has no node; is vhost_vdpa loaded?"
	}
	return ""
}
