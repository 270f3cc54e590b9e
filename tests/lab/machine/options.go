package machine

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/tests/lab/cache"
)

// MaxMachines is how many machines one lab can have: their wires are point to
// point.
const MaxMachines = 2

// TotalVFs is how many VFs each emulated NIC can have.
const TotalVFs = 7

// NoVFs is the [Options] NumVFs of a machine that starts without VFs.
const NoVFs = -1

// Options say what machine to boot. The zero value is machine 1 with 7 VFs on
// each PF.
type Options struct {
	// Index is 1 or 2 and decides the machine's name, addresses and wires;
	// 0 means 1.
	Index int
	// NumVFs is how many VFs each PF has once booted; 0 means all 7, [NoVFs]
	// none.
	NumVFs int
	// NUMA gives the machine two NUMA nodes with one CPU and one PF each.
	NUMA bool
	// MemoryMiB is 2048 unless set. From 2816 on, QEMU 10.0.2 (Debian 12's
	// backports) loses the registers of VFs; 10.0.13 does not.
	MemoryMiB int
	// CPUs is 2 unless set; a machine with NUMA nodes always has 2.
	CPUs int
	// Share is the host directory that is mounted read-write at /lab; if empty,
	// one that ends with the lab.
	Share string
	// Repo is the host directory that is mounted read-only at its own path; if
	// empty, the repository.
	Repo string
	// Disks are mounted in the machine.
	Disks []Disk
}

// A Disk is an image made by [DiskImage] or [WriteDisk] and where the machine
// mounts it, read-only unless it is Writable. What is written is thrown away when
// the machine ends; the image may be shared, and removed once a machine has booted.
type Disk struct {
	Image    string
	Mount    string
	Writable bool
}

func (o Options) withDefaults() (Options, error) {
	if o.Index == 0 {
		o.Index = 1
	}
	if o.Index < 1 || o.Index > MaxMachines {
		return o, fmt.Errorf("boot machine: index %d is not between 1 and %d", o.Index, MaxMachines)
	}
	switch {
	case o.NumVFs == 0:
		o.NumVFs = TotalVFs
	case o.NumVFs == NoVFs:
		o.NumVFs = 0
	case o.NumVFs < 0 || o.NumVFs > TotalVFs:
		return o, fmt.Errorf("boot machine %d: NumVFs %d is not between 1 and %d", o.Index, o.NumVFs, TotalVFs)
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 2048
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.Repo == "" {
		repo, err := cache.Repo()
		if err != nil {
			return o, err
		}
		o.Repo = repo
	}
	return o, nil
}

// name is what the machine calls itself.
func (o Options) name() string { return fmt.Sprintf("node%d", o.Index) }

// Addr returns the management address of machine index.
func Addr(index int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(10 + index)}) }

// pfAddresses are the PCI addresses at which the PFs are found, in order.
func (o Options) pfAddresses() []string {
	if o.NUMA {
		return []string{"0000:21:00.0", "0000:41:00.0"}
	}
	return []string{"0000:01:00.0", "0000:02:00.0"}
}

// commandLine is the kernel's command line.
//
// no_timer_check: under emulation on a busy host the check of the interrupt-
// remapped timer fails now and then and panics the kernel.
func (o Options) commandLine() string {
	words := []string{
		"console=ttyS0", "quiet", "loglevel=4", "no_timer_check", "intel_iommu=on", "iommu=pt",
		"mitigations=off", "panic=10", "net.ifnames=0",
		"lab.name=" + o.name(),
		"lab.ip=" + Addr(o.Index).String() + "/24",
		"lab.gw=" + gateway,
		"lab.pfs=" + strings.Join(o.pfAddresses(), ","),
		fmt.Sprintf("lab.vfs=%d", o.NumVFs),
		"lab.repo=" + filepath.Clean(o.Repo),
	}
	var disks []string
	for i, d := range o.Disks {
		mode := "ro"
		if d.Writable {
			mode = "rw"
		}
		disks = append(disks, fmt.Sprintf("vd%c:%s:%s", 'b'+i, d.Mount, mode))
	}
	if len(disks) > 0 {
		words = append(words, "lab.disks="+strings.Join(disks, ","))
	}
	return strings.Join(words, " ")
}
