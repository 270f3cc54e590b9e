package vftest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/vf"
)

// Machine stands in for the kernel of a machine with SR-IOV NICs, for the faults
// that a real one does not produce on demand. It keeps state: steps decide what
// later snapshots show, by the kernel's rules (drivers/pci/iov.c: no change of a
// number of VFs but from or to zero; new VFs have a driver only with autoprobe
// on). It prints itself.
type Machine struct {
	// Fail is called before each step and may return an error in its place.
	Fail func(vf.Step) error

	// mu guards the rest.
	mu     sync.Mutex
	snap   vf.Snapshot
	claims map[vf.Addr]string
	taken  []string
	subs   map[chan struct{}]bool
	// names and vfDriver of new VFs, by PF.
	names, vfDriver map[vf.Addr]string
}

// NewMachine returns a machine with these NICs.
func NewMachine(nics ...NIC) *Machine {
	m := &Machine{
		claims: map[vf.Addr]string{}, subs: map[chan struct{}]bool{},
		names: map[vf.Addr]string{}, vfDriver: map[vf.Addr]string{},
	}
	m.snap.Generation = 1
	for _, n := range nics {
		m.nic(n.withDefaults())
	}
	slices.SortFunc(m.snap.PFs, func(a, b vf.PF) int { return a.Addr.Compare(b.Addr) })
	return m
}

func (m *Machine) nic(n NIC) {
	a := vf.MustAddr(n.Addr)
	m.names[a], m.vfDriver[a] = n.Netdev, n.VFDriver
	m.snap.PFs = append(m.snap.PFs, vf.PF{
		Addr: a, Netdev: n.Netdev, Vendor: n.Vendor, Device: n.Device, Driver: n.Driver, NUMANode: n.NUMANode,
		IOMMUGroup: n.Group, LinkType: "ether", MTU: 1500, AdminUp: true, LinkUp: true, TotalVFs: n.TotalVFs, Autoprobe: true,
	})
	m.create(&m.snap.PFs[len(m.snap.PFs)-1], n.VFs)
}

// create is sriov_enable.
func (m *Machine) create(p *vf.PF, n int) {
	p.NumVFs = n
	for i := range n {
		v := vf.VF{
			Addr: vf.MustAddr(NIC{Addr: p.Addr.String()}.VFAddr(i)), PF: p.Addr, Index: i, Vendor: p.Vendor, Device: "10ca",
			NUMANode: p.NUMANode, IOMMUGroup: -1, LinkType: p.LinkType,
		}
		if p.IOMMUGroup >= 0 {
			v.IOMMUGroup = p.IOMMUGroup + 1 + i
		}
		if p.Autoprobe {
			m.bind(p, &v, m.vfDriver[p.Addr])
		}
		m.snap.VFs = append(m.snap.VFs, v)
	}
	slices.SortFunc(m.snap.VFs, func(a, b vf.VF) int { return a.Addr.Compare(b.Addr) })
}

func (m *Machine) bind(p *vf.PF, v *vf.VF, driver string) {
	v.Driver, v.Netdev, v.MTU = driver, "", 0
	switch driver {
	case "none":
		v.Driver = ""
	case "", vf.VFIO:
	default:
		v.Netdev, v.MTU = fmt.Sprintf("%sv%d", m.names[p.Addr], v.Index), 1500
	}
}

// Change lets the outside world change the machine, and tells subscribers.
func (m *Machine) Change(f func(*vf.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copied()
	f(&m.snap)
	m.changed()
}

// Claim makes the host use a function; "" ends that.
func (m *Machine) Claim(a vf.Addr, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims[a] = what
	if what == "" {
		delete(m.claims, a)
	}
	m.changed()
}

// copied replaces the lists: those given out before are immutable.
func (m *Machine) copied() {
	m.snap.PFs, m.snap.VFs = slices.Clone(m.snap.PFs), slices.Clone(m.snap.VFs)
}

func (m *Machine) changed() {
	m.snap.Generation++
	for c := range m.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Snapshot is that of an inventory.
func (m *Machine) Snapshot() *vf.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copied()
	s := m.snap
	return &s
}

// Subscribe is that of an inventory.
func (m *Machine) Subscribe() (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{}, 1)
	m.subs[c] = true
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, c)
	}
}

// Refresh is that of an inventory.
func (m *Machine) Refresh(context.Context) error { return nil }

// Claims returns what Claim said.
func (m *Machine) Claims(*vf.Snapshot) (map[vf.Addr]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.claims), nil
}

// Do takes a step as the kernel would.
func (m *Machine) Do(_ context.Context, s vf.Step) error {
	if m.Fail != nil {
		if err := m.Fail(s); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copied()
	m.taken = append(m.taken, s.String())
	defer m.changed()
	p := m.pf(s.PF)
	switch s.Op {
	case vf.Up:
		p.AdminUp, p.LinkUp = true, true
	case vf.RaiseMTU:
		p.MTU = s.Value
	case vf.Autoprobe:
		p.Autoprobe = s.Value != 0
	case vf.Remove:
		if p.NumVFs != s.Value {
			return unix.EAGAIN
		}
		p.NumVFs = 0
		m.snap.VFs = slices.DeleteFunc(m.snap.VFs, func(v vf.VF) bool { return v.PF == p.Addr })
	case vf.Create:
		switch {
		case p.NumVFs != 0:
			return unix.EBUSY
		case s.Value > p.TotalVFs:
			return unix.ERANGE
		}
		m.create(p, s.Value)
	default:
		return m.vf(p, s)
	}
	return nil
}

func (m *Machine) vf(p *vf.PF, s vf.Step) error {
	for i := range m.snap.VFs {
		v := &m.snap.VFs[i]
		if v.PF != p.Addr || v.Index != s.Index {
			continue
		}
		switch {
		case s.Op == vf.SetMTU && v.Netdev == "":
			return unix.ENODEV
		case s.Op == vf.SetMTU:
			v.MTU = s.Value
		case s.Driver == vf.Kernel && !p.Autoprobe:
			return unix.ENODEV
		case s.Driver == vf.Kernel:
			m.bind(p, v, m.vfDriver[p.Addr])
		default:
			m.bind(p, v, s.Driver)
		}
		return nil
	}
	return unix.ENOENT
}

func (m *Machine) pf(a vf.Addr) *vf.PF {
	i := slices.IndexFunc(m.snap.PFs, func(p vf.PF) bool { return p.Addr == a })
	return &m.snap.PFs[i]
}

// Taken returns the steps that were taken so far, in order, and forgets them.
func (m *Machine) Taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.taken
	m.taken = nil
	return out
}

// String prints the machine, a line for each PF and each of its VFs.
func (m *Machine) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, p := range m.snap.PFs {
		fmt.Fprintf(&b, "%s %d/%d VFs mtu %d up %v autoprobe %v\n", p.Netdev, p.NumVFs, p.TotalVFs, p.MTU, p.AdminUp, p.Autoprobe)
		for _, v := range m.snap.Of(p.Addr) {
			fmt.Fprintf(&b, "  %d %s %q mtu %d\n", v.Index, v.Driver, v.Netdev, v.MTU)
		}
	}
	return b.String()
}
