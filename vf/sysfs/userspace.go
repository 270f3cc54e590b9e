package sysfs

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// list returns the entries of a directory of the function, sorted; none where
// there is no such directory, which is how most functions are.
func (r *reader) list(name string) []string {
	names, err := r.names(name)
	if err != nil && !absent(err) {
		r.skip(name, err)
	}
	slices.Sort(names)
	return names
}

// rdma are the RDMA devices in this namespace. In the exclusive mode of the RDMA
// subsystem those of a VF in a pod are out of sight (rdma-system(8)).
func (r *reader) rdma() []string { return r.list("infiniband") }

// userspace finds the nodes that programs open. What hangs on a device class that
// the function does not have costs one failing system call each.
func (r *reader) userspace(entries []string, driver string) vf.Userspace {
	var u vf.Userspace
	for _, class := range []string{"infiniband_verbs", "infiniband_mad"} {
		if slices.Contains(entries, class) {
			u.RDMA = append(u.RDMA, r.list(class)...)
		}
	}
	slices.Sort(u.RDMA)
	if slices.Contains(entries, "uio") {
		u.UIO = strings.Join(first(r.list("uio")), "")
	}
	// One read for every function would be a tenth of a scan: the name is of
	// interest where the group's node is opened.
	if vf.UserspaceDriver(driver) && slices.Contains(entries, "iommu_group") {
		name, err := r.attribute("iommu_group/name")
		u.NoIOMMU = err == nil && name == "vfio-noiommu"
	}
	for _, e := range entries {
		if strings.HasPrefix(e, "vdpa") && u.VDPA.Name == "" {
			u.VDPA = r.vdpa(e)
		}
	}
	return u
}

func first(list []string) []string { return list[:min(1, len(list))] }

// vdpa reads a vDPA device, which stands below its parent function
// (drivers/vdpa/vdpa.c); one on vhost_vdpa has its node's name below it.
func (r *reader) vdpa(name string) vf.VDPA {
	v := vf.VDPA{Name: name, Driver: r.base(name + "/driver")}
	for _, e := range r.list(name) {
		if strings.HasPrefix(e, "vhost-vdpa-") {
			v.Node = e
		}
	}
	return v
}

// pkey is the partition key at index 0 of port 1 of the first RDMA device
// (Documentation/ABI/stable/sysfs-class-infiniband); Ethernet ports have one too
// (RoCE), which means nothing.
func (r *reader) pkey(rdma []string, linkType string) string {
	if len(rdma) == 0 || linkType != "infiniband" {
		return ""
	}
	s, err := r.attribute("infiniband/" + rdma[0] + "/ports/1/pkeys/0")
	if err != nil && !absent(err) {
		r.skip("infiniband/"+rdma[0]+"/ports/1/pkeys/0", err)
	}
	return s
}

// acpiIndex is empty where the firmware gives none.
func (r *reader) acpiIndex() string {
	s, err := r.attribute("acpi_index")
	if err != nil && !absent(err) {
		r.skip("acpi_index", err)
	}
	return s
}

const auxDevices = "bus/auxiliary/devices"

// auxiliaries reads the auxiliary bus; kernels without it have no such devices.
func (s *scan) auxiliaries() {
	bus, err := s.fs.open(auxDevices)
	if errors.Is(err, unix.ENOENT) {
		return
	}
	if err != nil {
		s.skipped = append(s.skipped, Skipped{Path: auxDevices, Err: err})
		return
	}
	names, err := bus.names(".")
	bus.close()
	if err != nil {
		s.skipped = append(s.skipped, Skipped{Path: auxDevices, Err: err})
	}
	slices.Sort(names)
	for _, name := range names {
		s.auxiliary(name)
	}
}

// auxiliary adds one device, if a network function is its parent.
func (s *scan) auxiliary(name string) {
	d, err := s.fs.open(auxDevices + "/" + name)
	if err != nil {
		return // gone since the bus was listed
	}
	defer d.close()
	parent, ok := s.parent(d)
	if !ok {
		return
	}
	r := reader{dir: d}
	entries := r.list(".")
	a := vf.Aux{Name: name, PF: parent.Addr, Index: r.number("sfnum", -1), Driver: r.base("driver"), NUMANode: parent.NUMANode}
	if a.Netdev = r.netdev(); a.Netdev != "" {
		a.LinkType = encapsulation(r.count("net/" + a.Netdev + "/type"))
		a.MTU = r.count("net/" + a.Netdev + "/mtu")
	} else if a.Type() == "sf" {
		a.LinkType = parent.LinkType
	}
	a.RDMA, a.Userspace = r.rdma(), r.userspace(entries, a.Driver)
	s.snap.Aux = append(s.snap.Aux, a)
	s.skipped = append(s.skipped, r.skipped...)
}

// parent is the PF below which the auxiliary device's directory lies.
func (s *scan) parent(d dir) (vf.PF, bool) {
	var buf [4096]byte
	n, err := again(func() (int, error) {
		return unix.Readlink(s.fs.root+"/"+d.path, buf[:])
	})
	if err != nil {
		return vf.PF{}, false
	}
	parts := strings.Split(string(buf[:n]), "/")
	for _, part := range slices.Backward(parts) {
		if a, err := vf.ParseAddr(part); err == nil {
			return s.snap.PF(a)
		}
	}
	return vf.PF{}, false
}

// adminUp reads IFF_UP of the device's flags (net/<name>/flags, hexadecimal).
func (r *reader) adminUp(name string) bool {
	s, err := r.attribute("net/" + name + "/flags")
	if err != nil {
		if !absent(err) {
			r.skip("net/"+name+"/flags", err)
		}
		return false
	}
	flags, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
	if err != nil {
		r.skip("net/"+name+"/flags", err)
	}
	return flags&unix.IFF_UP != 0
}
