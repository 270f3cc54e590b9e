package sysfs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// reader reads the attributes of one function and keeps what it had to skip.
type reader struct {
	dir
	skipped []Skipped
}

// Skipped is something that a scan could not read or make sense of, and went on
// without.
type Skipped struct {
	// Path below the root, of an attribute or a function.
	Path string
	Err  error
}

// Error prints path and cause.
func (s Skipped) Error() string { return fmt.Sprintf("skip %s: %v", s.Path, s.Err) }

// Unwrap returns the cause.
func (s Skipped) Unwrap() error { return s.Err }

func (r *reader) skip(name string, err error) {
	r.skipped = append(r.skipped, Skipped{Path: r.path + "/" + name, Err: err})
}

// absent reports whether err only says that the kernel has no such attribute
// here, or that the function went away while it was read.
func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

// text returns an attribute that must be there.
func (r *reader) text(name string) string {
	s, err := r.attribute(name)
	if err != nil {
		r.skip(name, err)
	}
	return s
}

// number returns a decimal attribute, or fallback where there is none.
func (r *reader) number(name string, fallback int) int {
	s, err := r.attribute(name)
	if absent(err) {
		return fallback
	}
	if err != nil {
		r.skip(name, err)
		return fallback
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		r.skip(name, fmt.Errorf("value %q is not a number: %w", s, errors.Unwrap(err)))
		return fallback
	}
	return int(n)
}

// count is number for attributes that cannot be negative.
func (r *reader) count(name string) int {
	n := r.number(name, 0)
	if n < 0 {
		r.skip(name, fmt.Errorf("value %d is below 0", n))
		return 0
	}
	return n
}

// base returns the name a link points to, "" where there is no link.
func (r *reader) base(name string) string {
	s, err := r.target(name)
	if err != nil && !absent(err) {
		r.skip(name, err)
	}
	return s
}

// id is a PCI id without its 0x.
func (r *reader) id(name string) string {
	return strings.ToLower(strings.TrimPrefix(r.text(name), "0x"))
}

// group is the number of the IOMMU group, -1 without an IOMMU.
func (r *reader) group() int {
	s := r.base("iommu_group")
	if s == "" {
		return -1
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		r.skip("iommu_group", fmt.Errorf("group %q is not a number", s))
		return -1
	}
	return int(n)
}

// node is the NUMA node; the kernel writes -1 for "firmware did not say".
func (r *reader) node() int { return max(-1, r.number("numa_node", -1)) }

// netdev is the network device of the function that stands for the function
// itself, "" if this namespace has none.
func (r *reader) netdev() string {
	names := r.ports()
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// ports are the network devices of the function's own ports in this namespace,
// sorted; more than one where a NIC has all of its ports behind one function. A NIC
// in switchdev mode lists the representors of its VFs beside its uplink; their
// phys_port_name says so (Documentation/networking/switchdev.rst).
func (r *reader) ports() []string {
	names := r.netdevs()
	if len(names) < 2 {
		return names
	}
	own := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		port, err := r.attribute("net/" + n + "/phys_port_name")
		return err == nil && port != "" && (port[0] != 'p' || strings.Contains(port, "f"))
	})
	if len(own) == 0 {
		return names[:1]
	}
	return own
}

func (r *reader) netdevs() []string {
	names, err := r.names("net")
	if err != nil && !absent(err) {
		r.skip("net", err)
	}
	slices.Sort(names)
	return names
}

// encapsulation turns ARPHRD numbers (linux/if_arp.h) into the names that
// ip-link(8) prints.
func encapsulation(arphrd int) string {
	switch arphrd {
	case 0:
		return ""
	case 1:
		return "ether"
	case 32:
		return "infiniband"
	}
	return strconv.Itoa(arphrd)
}

func (r *reader) pf(a vf.Addr) vf.PF {
	entries := r.list(".")
	p := vf.PF{
		Addr: a, Vendor: r.id("vendor"), Device: r.id("device"), Driver: r.base("driver"), NUMANode: r.node(),
		IOMMUGroup: r.group(), TotalVFs: r.count("sriov_totalvfs"), ACPIIndex: r.acpiIndex(),
	}
	if p.TotalVFs > 0 {
		p.NumVFs = r.count("sriov_numvfs")
		p.Autoprobe = r.number("sriov_drivers_autoprobe", 1) != 0
	}
	if ports := r.ports(); len(ports) > 0 {
		if p.Netdev = ports[0]; len(ports) > 1 {
			p.Ports = ports[1:]
		}
		at := "net/" + p.Netdev + "/"
		p.LinkType = encapsulation(r.count(at + "type"))
		p.MTU = r.count(at + "mtu")
		p.MAC = r.text(at + "address")
		p.LinkUp = r.text(at+"operstate") == "up"
		p.AdminUp = r.adminUp(p.Netdev)
	}
	if slices.Contains(entries, "infiniband") {
		p.RDMA = r.rdma()
		p.PKey = r.pkey(p.RDMA, p.LinkType)
	}
	p.Userspace = r.userspace(entries, p.Driver)
	return p
}

// vf reads everything about a VF but its index, which only its PF knows.
func (r *reader) vf(a, pf vf.Addr) vf.VF {
	entries := r.list(".")
	v := vf.VF{
		Addr: a, PF: pf, Index: -1, Vendor: r.id("vendor"), Device: r.id("device"), Driver: r.base("driver"),
		NUMANode: r.node(), IOMMUGroup: r.group(),
	}
	if slices.Contains(entries, "acpi_index") {
		v.ACPIIndex = r.acpiIndex()
	}
	if slices.Contains(entries, "net") {
		if v.Netdev = r.netdev(); v.Netdev != "" {
			v.LinkType = encapsulation(r.count("net/" + v.Netdev + "/type"))
			v.MTU = r.count("net/" + v.Netdev + "/mtu")
		}
	}
	if slices.Contains(entries, "infiniband") {
		v.RDMA = r.rdma()
		v.PKey = r.pkey(v.RDMA, v.LinkType)
	}
	v.Userspace = r.userspace(entries, v.Driver)
	return v
}

// physfn returns the address of the PF; ok is false for a function without one.
func (r *reader) physfn() (pf vf.Addr, ok bool, err error) {
	s, err := r.target("physfn")
	if absent(err) {
		return vf.Addr{}, false, nil
	}
	if err != nil {
		return vf.Addr{}, false, err
	}
	pf, err = vf.ParseAddr(s)
	return pf, err == nil, err
}
