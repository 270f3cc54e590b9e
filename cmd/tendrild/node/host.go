package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tendril-cni/tendril/cmd/tendrild/install"
	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/delegate"
	"github.com/tendril-cni/tendril/cni/inspect"
)

// host gathers what a doctor asks of this machine. What cannot be read is left
// empty, but where its absence would mean something else.
func (d *daemon) host(ctx context.Context) (inspect.Host, error) {
	out := inspect.Host{
		Version: d.Version, Node: d.NodeName, Started: d.started, Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Parameters: parameters(firstLine("/proc/cmdline")), IOMMUGroups: entries(filepath.Join(d.SysfsRoot, "kernel/iommu_groups")),
		Modules: modules(d.SysfsRoot), KubeletRoot: d.KubeletRoot, CNIConfDir: d.CNIConfDir, CNIBinDir: d.CNIBinDir,
		ConfFiles: confFiles(d.CNIConfDir), Plugins: executables(d.CNIBinDir), Spooled: entries(d.spoolDir()),
	}
	if err := d.ready(); err != nil {
		out.NotReady = err.Error()
	}
	if _, err := d.kubelet.All(ctx); err != nil {
		out.PodResources = err.Error()
	}
	records, err := d.records()
	out.Attachments = len(records)
	for _, r := range records {
		if r.Phase != cni.Attached {
			out.Unfinished++
		}
	}
	if err != nil {
		return out, fmt.Errorf("read the journal: %w", err)
	}
	return out, nil
}

func firstLine(path string) string {
	data, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// parameters are the words of the kernel's command line that decide about
// devices. The others are left out: people put all sorts of things there.
func parameters(line string) []string {
	var out []string
	for _, word := range strings.Fields(line) {
		name, _, _ := strings.Cut(word, "=")
		for _, known := range []string{"intel_iommu", "amd_iommu", "iommu", "pci", "vfio-pci", "vfio_iommu_type1", "hugepages", "hugepagesz", "default_hugepagesz"} {
			if name == known || strings.HasPrefix(name, known+".") {
				out = append(out, word)
			}
		}
	}
	return out
}

// modules that networks may need, by the kernel's names.
func modules(sysfs string) map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{"macvlan", "ipvlan", "8021q", "bridge", "bonding", "vrf", "vfio_pci", "vhost_net", "tun"} {
		_, err := os.Stat(filepath.Join(sysfs, "module", name))
		out[name] = err == nil
	}
	return out
}

// entries counts what a directory has, hidden files aside.
func entries(dir string) (n int) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	return n
}

func confFiles(dir string) []inspect.ConfFile {
	out := []inspect.ConfFile{}
	for c := range delegate.Candidates(dir) {
		name := filepath.Base(c.Path)
		file := inspect.ConfFile{Name: name, Network: c.Network.Name, Types: typesOf(c.Network), Own: install.Own(name)}
		if c.Err != nil {
			file.Error = c.Err.Error()
		}
		out = append(out, file)
	}
	return out
}

func executables(dir string) []string {
	names, _ := programs(dir)
	return names
}
