package machine

import (
	"fmt"
	"path/filepath"
)

// arguments collects QEMU's command line.
type arguments []string

func (a *arguments) add(args ...string) { *a = append(*a, args...) }

func (a *arguments) addf(flag, format string, args ...any) {
	*a = append(*a, flag, fmt.Sprintf(format, args...))
}

// firmwareDirs are where the packages keep what QEMU loads into a machine.
var firmwareDirs = []string{"usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"}

// tapFD is the descriptor by which QEMU inherits the tap: the first of
// exec.Cmd's ExtraFiles.
const tapFD = 3

// qemuArguments is the whole machine. dir is where its sockets are.
func qemuArguments(p parts, o Options, acceleration, dir string) []string {
	var a arguments
	a.addBase(p, acceleration)
	a.addf("-name", "%s", o.name())
	a.addf("-m", "%d", o.MemoryMiB)
	a.add("-append", o.commandLine())
	a.addDisk("root", filepath.Join(p.image, "root.img"))
	for i, d := range o.Disks {
		a.addDisk(fmt.Sprintf("disk%d", i), d.Image)
	}
	a.addf("-netdev", "tap,id=management,fd=%d", tapFD)
	a.addf("-device", "virtio-net-pci,netdev=management,romfile=,mac=52:54:00:77:00:%02x", o.Index)
	a.addShare("lab", o.Share, false)
	a.addShare("repo", o.Repo, true)
	a.add("-object", "rng-random,filename=/dev/urandom,id=random", "-device", "virtio-rng-pci,rng=random")
	if o.NUMA {
		a.addNUMA(o)
	} else {
		a.addf("-smp", "%d", o.CPUs)
	}
	for nic := range 2 {
		a.addNIC(o, nic, dir)
	}
	a.add("-serial", "file:"+filepath.Join(dir, consoleFile))
	a.add("-monitor", "unix:"+filepath.Join(dir, monitorSocket)+",server,nowait")
	return a
}

// addBase adds what all machines have, a trial of the host included.
func (a *arguments) addBase(p parts, acceleration string) {
	for _, f := range firmwareDirs {
		a.add("-L", p.qemu.Path(f))
	}
	a.add("-nodefaults", "-no-user-config", "-display", "none")
	a.add("-machine", "q35,kernel-irqchip=split", "-accel", acceleration, "-cpu", "max")
	a.add("-device", "intel-iommu,intremap=on,caching-mode=on")
	a.add("-kernel", filepath.Join(p.image, "vmlinuz"), "-initrd", filepath.Join(p.image, "initrd"))
}

// addDisk adds an image whose writes are thrown away when QEMU ends.
func (a *arguments) addDisk(id, image string) {
	a.addf("-drive", "file=%s,if=none,id=%s,format=raw,snapshot=on,cache=unsafe", image, id)
	a.addf("-device", "virtio-blk-pci,drive=%s", id)
}

func (a *arguments) addShare(tag, dir string, readonly bool) {
	mode := ""
	if readonly {
		mode = ",readonly=on"
	}
	a.addf("-fsdev", "local,id=%s,path=%s,security_model=none,multidevs=remap%s", tag, dir, mode)
	a.addf("-device", "virtio-9p-pci,fsdev=%s,mount_tag=%s", tag, tag)
}

// addNUMA makes two nodes, each with a CPU, half of the memory and a PCI bus of
// its own; [Options.pfAddresses] follows from the bus numbers.
func (a *arguments) addNUMA(o Options) {
	a.add("-smp", "2,sockets=2,cores=1,threads=1")
	for node := range 2 {
		a.addf("-object", "memory-backend-ram,id=memory%d,size=%dM", node, o.MemoryMiB/2)
		a.addf("-numa", "node,nodeid=%d,cpus=%d,memdev=memory%d", node, node, node)
		a.addf("-device", "pxb-pcie,id=bus%d,bus=pcie.0,bus_nr=%d,numa_node=%d", node, 32*(node+1), node)
	}
}

// addNIC adds an 82576 on a root port of its own. Its wire is a pair of datagram
// sockets; either end may come up first, and frames to a machine that is not
// there are lost, as with an unplugged cable.
func (a *arguments) addNIC(o Options, nic int, dir string) {
	bus := ""
	if o.NUMA {
		bus = fmt.Sprintf(",bus=bus%d", nic)
	}
	a.addf("-device", "pcie-root-port,id=port%d,chassis=%d%s", nic, nic+1, bus)
	a.addf("-netdev", "dgram,id=wire%d,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s",
		nic, wire(dir, o.Index, nic), wire(dir, MaxMachines+1-o.Index, nic))
	a.addf("-device", "igb,netdev=wire%d,bus=port%d,mac=52:54:00:aa:%02x:%02x", nic, nic, o.Index, nic+1)
}

// wire is the socket of one end of a wire. It lies beside the machines'
// directories, so both ends know it.
func wire(dir string, index, nic int) string {
	return filepath.Join(filepath.Dir(dir), fmt.Sprintf("wire%d-%d", nic, index))
}
