package vf

import (
	"cmp"
	"slices"
	"strings"
)

// Drivers that a policy may name.
const (
	// Kernel is the driver that the kernel itself would choose.
	Kernel = "kernel"
	// VFIO hands the VF to user space.
	VFIO = "vfio-pci"
)

// Policy says how the VFs of some NICs shall be. It is a value: package
// vf/v1alpha1 makes it of the API object, checked, and for this node alone.
type Policy struct {
	Name string
	// Priority decides when policies want the same VF: the lower number wins, and
	// the earlier name among equals.
	Priority int
	NICs     NICs
	// NumVFs is how many VFs of each PF the policy wants. 0 takes those that
	// exist.
	NumVFs int
	// CreateVFs is how many are made when VFs have to be made, 0 for the most
	// that the PF can have. More than NumVFs lets NumVFs grow later without any VF
	// being destroyed.
	CreateVFs int
	// MTU of PF (raised only) and VFs; 0 leaves both alone.
	MTU int
	// Autoprobe is what the PF's sriov_drivers_autoprobe shall be in the end, nil
	// leaves it as it is.
	Autoprobe *bool
	// AllowPrimary lets the policy have PFs that the host uses itself.
	AllowPrimary bool
	// PFLink makes VFs unhealthy while their PF has no link.
	PFLink bool
	// Groups say which VFs get which driver and resource. The first that has a VF
	// holds for it; VFs in none are made and left alone.
	Groups []Group
}

// Group is a range of VFs that are treated alike.
type Group struct {
	VFs Ranges
	// Driver is Kernel or VFIO.
	Driver string
	// Resource is the extended resource ("prefix/name") that offers the VFs,
	// empty for none.
	Resource string
	// ExcludeTopology leaves the NUMA node out of what the kubelet is told.
	ExcludeTopology bool
	// VhostNet adds /dev/vhost-net and /dev/net/tun.
	VhostNet bool
}

// NICs selects PFs, and may narrow their VFs. Lists that are empty select all; a
// PF must be in every list that is not.
type NICs struct {
	// Vendors and Devices are PCI ids of four lower-case hex digits, of the PF.
	Vendors, Devices []string
	// PFNames match name and alternative names of the PF's network device, without
	// regard to case.
	PFNames []Functions
	// RootDevices match the PF's PCI address.
	RootDevices []Functions
}

// match reports whether p is selected, and returns which of its VFs are: those
// that the names and the root devices both have.
func (n NICs) match(p PF) (in func(i int) bool, ok bool) {
	if !listed(n.Vendors, p.Vendor) || !listed(n.Devices, p.Device) {
		return nil, false
	}
	byName, ok1 := among(n.PFNames, func(name string) bool {
		return p.Netdev != "" && strings.EqualFold(name, p.Netdev) ||
			slices.ContainsFunc(p.AltNames, func(alt string) bool { return strings.EqualFold(name, alt) })
	})
	byRoot, ok2 := among(n.RootDevices, func(addr string) bool { return strings.EqualFold(addr, p.Addr.String()) })
	return func(i int) bool { return byName(i) && byRoot(i) }, ok1 && ok2
}

func listed(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }

// among is the union of the entries that name the PF.
func among(list []Functions, named func(string) bool) (in func(i int) bool, ok bool) {
	var mine []Functions
	for _, f := range list {
		if named(f.PF) {
			mine = append(mine, f)
		}
	}
	return func(i int) bool {
		return len(list) == 0 || slices.ContainsFunc(mine, func(f Functions) bool { return f.Ranges.Has(i) })
	}, len(list) == 0 || len(mine) > 0
}

// Selects reports whether the policy is about the PF p.
func (q Policy) Selects(p PF) bool {
	_, ok := q.NICs.match(p)
	return ok && p.TotalVFs > 0
}

// sorted returns the policies with the winner first.
func sorted(policies []Policy) []Policy {
	return slices.SortedFunc(slices.Values(policies), func(a, b Policy) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
}
