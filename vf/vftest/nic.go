package vftest

import (
	"fmt"
	"strings"

	"github.com/tendril-cni/tendril/vf"
)

// NIC describes one SR-IOV network card to be written as a sysfs tree. The zero
// values of the strings fall back to the Intel 82576 that the lab emulates.
type NIC struct {
	// Addr is the PCI address of the physical function and Netdev its name.
	Addr, Netdev string
	// Vendor, Device and VFDevice are PCI ids as four hex digits.
	Vendor, Device, VFDevice string
	// Driver and VFDriver are driver names. With VFDriver "vfio-pci" or "none"
	// the VFs have no network device, and with "none" no driver either.
	Driver, VFDriver string
	// VFs exist, out of TotalVFs (0 means as many as there are VFs).
	VFs, TotalVFs int
	// NUMANode may be -1 for "unknown".
	NUMANode int
	// Group is the IOMMU group of the physical function; its VFs take the
	// numbers after it. -1 leaves all of them without a group.
	Group int
}

// Igb is a NIC as QEMU's `-device igb` shows it with all of its 7 VFs made:
// PF 0000:01:00.0 named sriov0 on NUMA node 0, VFs 0000:01:10.0, 10.2, ... 11.4
// named sriov0v0 to sriov0v6, IOMMU groups 20 to 27.
func Igb() NIC {
	return NIC{Addr: "0000:01:00.0", Netdev: "sriov0", VFs: 7, Group: 20}
}

// Second is another igb at 0000:02:00.0 named sriov1, on NUMA node 1, with 2 of
// its 7 VFs made (0000:02:10.0 and 10.2), IOMMU groups 30 to 32.
func Second() NIC {
	return NIC{Addr: "0000:02:00.0", Netdev: "sriov1", VFs: 2, TotalVFs: 7, NUMANode: 1, Group: 30}
}

// TwoNICs is the archive of Igb and Second, for Tree.
func TwoNICs() string { return Archive(Igb(), Second()) }

// Archive writes nics as one txtar archive, laid out as the kernel does it: the
// functions under devices/, links to them under bus/pci/devices and class/net,
// drivers and IOMMU groups as links.
func Archive(nics ...NIC) string {
	var a archive
	for _, n := range nics {
		a.nic(n.withDefaults())
	}
	return a.files.String() + "-- LINKS --\n" + a.links.String()
}

// VFAddr returns the PCI address of VF i: the routing id of the PF plus offset
// 0x80 plus 2*i (82576, and a common arrangement elsewhere).
func (n NIC) VFAddr(i int) string {
	var domain, bus, dev, fn int
	if _, err := fmt.Sscanf(n.Addr, "%x:%x:%x.%x", &domain, &bus, &dev, &fn); err != nil {
		panic(fmt.Sprintf("vftest: PCI address %q: %v", n.Addr, err))
	}
	id := bus<<8 | dev<<3 | fn
	id += 0x80 + 2*i
	return vf.MustAddr(fmt.Sprintf("%04x:%02x:%02x.%x", domain, id>>8, id>>3&0x1f, id&7)).String()
}

func (n NIC) withDefaults() NIC {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&n.Vendor, "8086")
	set(&n.Device, "10c9")
	set(&n.VFDevice, "10ca")
	set(&n.Driver, "igb")
	set(&n.VFDriver, "igbvf")
	if n.TotalVFs == 0 {
		n.TotalVFs = n.VFs
	}
	return n
}

type archive struct{ files, links strings.Builder }

func (a *archive) file(path, value string) { fmt.Fprintf(&a.files, "-- %s --\n%s\n", path, value) }

func (a *archive) link(path, target string) { fmt.Fprintf(&a.links, "%s -> %s\n", path, target) }

func (a *archive) nic(n NIC) {
	dir := a.function(n.Addr, n.Vendor, n.Device, n.Driver, n.NUMANode, n.Group)
	a.file(dir+"/sriov_totalvfs", fmt.Sprint(n.TotalVFs))
	a.file(dir+"/sriov_numvfs", fmt.Sprint(n.VFs))
	a.file(dir+"/sriov_drivers_autoprobe", "1")
	a.netdev(dir, n.Addr, n.Netdev, 0)
	for i := range n.VFs {
		a.vf(n, dir, i)
	}
}

func (a *archive) vf(n NIC, pfDir string, i int) {
	addr, group := n.VFAddr(i), n.Group
	if group >= 0 {
		group += 1 + i
	}
	dir := a.function(addr, n.Vendor, n.VFDevice, n.VFDriver, n.NUMANode, group)
	a.link(dir+"/physfn", "../"+n.Addr)
	a.link(fmt.Sprintf("%s/virtfn%d", pfDir, i), "../"+addr)
	if n.VFDriver != "vfio-pci" && n.VFDriver != "none" {
		a.netdev(dir, addr, fmt.Sprintf("%sv%d", n.Netdev, i), i+1)
	}
}

func (a *archive) function(addr, vendor, device, driver string, numa, group int) (dir string) {
	dir = "devices/pci0000:00/" + addr
	a.link("bus/pci/devices/"+addr, "../../../"+dir)
	a.file(dir+"/vendor", "0x"+vendor)
	a.file(dir+"/device", "0x"+device)
	a.file(dir+"/class", "0x020000")
	a.file(dir+"/numa_node", fmt.Sprint(numa))
	if driver != "none" {
		a.link(dir+"/driver", "../../../bus/pci/drivers/"+driver)
		a.link("bus/pci/drivers/"+driver+"/"+addr, "../../../../"+dir)
	}
	if group >= 0 {
		a.link(dir+"/iommu_group", fmt.Sprintf("../../../kernel/iommu_groups/%d", group))
		a.link(fmt.Sprintf("kernel/iommu_groups/%d/devices/%s", group, addr), "../../../../"+dir)
	}
	return dir
}

func (a *archive) netdev(dir, addr, name string, n int) {
	if name == "" {
		return
	}
	net := dir + "/net/" + name
	a.file(net+"/type", "1")
	a.file(net+"/mtu", "1500")
	a.file(net+"/operstate", "up")
	a.file(net+"/flags", "0x1003")
	a.file(net+"/address", fmt.Sprintf("52:54:00:%s:%s:%02x", addr[2:4], addr[5:7], n))
	a.link(net+"/device", "../../../"+addr)
	a.link("class/net/"+name, "../../"+net)
}
