package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/v1alpha1"
)

// NodeFacts are what is known of one node.
type NodeFacts struct {
	Node corev1.Node
	// Daemon is the name of its pod, empty for none; Trouble says why it is not
	// ready, and Unasked why it was not asked: the answers are nil then.
	Daemon, Trouble, Unasked string
	Host                     *inspect.Host
	Inventory                *inspect.Inventory
	Pools                    *inspect.Pools
	Networks                 *inspect.Networks
	// Userspace says that something wants VFs of this node on vfio-pci.
	Userspace bool
	// Version is that of the program that asks.
	Version string
}

// Node checks one node.
func Node(f NodeFacts) []Check {
	l := &nodeList{list: list{node: f.Node.Name}, f: f}
	l.kubelet()
	l.daemon()
	if f.Host == nil {
		return l.all
	}
	l.kernel()
	l.iommu()
	l.conf()
	l.plugins()
	l.journal()
	l.vfs()
	l.pools()
	return l.all
}

type nodeList struct {
	list
	f NodeFacts
}

func (l *nodeList) kubelet() {
	info := l.f.Node.Status.NodeInfo
	ready := slices.ContainsFunc(l.f.Node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	if ready {
		l.ok("kubelet", "%s, ready", info.KubeletVersion)
	} else {
		l.fail("kubelet", "kubectl describe node "+l.node, "%s, the node is not Ready", info.KubeletVersion)
	}
	l.runtime(info.ContainerRuntimeVersion)
	for _, t := range l.f.Node.Spec.Taints {
		if t.Key == v1alpha1.NotReadyTaint {
			l.warn("taint", "wait, or see kubectl tendril status", "%s: its VFs are not as the policies want", t.Key)
		}
	}
}

// runtime: only newer ones call STATUS and GC (CNI 1.1), without which a node
// looks ready while no pod could start.
func (l *nodeList) runtime(version string) {
	name, number, _ := strings.Cut(version, "://")
	major, _, _ := strings.Cut(number, ".")
	n, err := strconv.Atoi(major)
	switch {
	case version == "":
		l.add(Unknown, "runtime", "", "the node does not say which")
	case name == "containerd" && err == nil && n < 2:
		l.warn("runtime", "containerd 2.0 or later calls STATUS and GC", "%s speaks CNI 1.0: the node looks ready also while the daemon is away", version)
	default:
		l.ok("runtime", "%s", version)
	}
}

func (l *nodeList) daemon() {
	f := l.f
	switch {
	case f.Daemon == "":
		l.fail("daemon", "kubectl -n tendril-system describe daemonset tendrild", "no tendrild runs here: pods that ask for networks do not start")
	case f.Trouble != "":
		l.fail("daemon", "kubectl -n tendril-system logs "+f.Daemon, "%s is not ready: %s", f.Daemon, f.Trouble)
	case f.Unasked != "":
		l.add(Unknown, "daemon", "", "%s is ready; the host was not looked at: %s", f.Daemon, f.Unasked)
	case f.Host.NotReady != "":
		l.fail("daemon", "what it waits for has to come", "%s: %s", f.Daemon, f.Host.NotReady)
	default:
		l.ok("daemon", "%s, %s", f.Daemon, f.Host.Version)
	}
	if h := f.Host; h != nil {
		l.version(h.Version)
		if h.PodResources != "" {
			l.fail("podresources", "the kubelet has to serve the pod resources API at "+h.KubeletRoot+"/pod-resources (--kubelet-root)", "%s", h.PodResources)
		} else {
			l.ok("podresources", "the kubelet tells which pod has which device")
		}
	}
}

func (l *nodeList) version(daemon string) {
	if daemon != l.f.Version && daemon != "" && daemon != "dev" && l.f.Version != "dev" {
		l.warn("version", "use the same release for both", "the daemon is %s, this program %s", daemon, l.f.Version)
	}
}

func (l *nodeList) kernel() {
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(l.f.Host.Modules)) {
		if !l.f.Host.Modules[name] && name != "vfio_pci" {
			missing = append(missing, name)
		}
	}
	text := ""
	if len(missing) > 0 {
		text = "; loaded at their first use: " + strings.Join(missing, ", ")
	}
	l.ok("kernel", "%s%s", l.f.Host.Kernel, text)
}

// iommu: without one a VF in userspace can write to all of the host's memory, and
// vfio-pci refuses.
func (l *nodeList) iommu() {
	h, inv := l.f.Host, l.f.Inventory
	switch {
	case h.IOMMUGroups > 0:
		l.ok("iommu", "on, %d groups", h.IOMMUGroups)
	case l.f.Userspace:
		l.fail("iommu", "switch it on: the firmware's setting, and intel_iommu=on or amd_iommu=on iommu=pt for the kernel", "off, and VFs are wanted on vfio-pci")
	case inv != nil && len(inv.PFs) > 0:
		l.warn("iommu", "switch it on before giving VFs to userspace drivers", "off: VFs cannot be on vfio-pci")
	default:
		l.ok("iommu", "off, and there is no SR-IOV NIC")
	}
	if l.f.Userspace && !h.Modules["vfio_pci"] {
		l.fail("vfio", "modprobe vfio-pci, and have it loaded at boot", "the kernel has no vfio_pci, and VFs are wanted on it")
	}
}

// conf: the runtime takes the first file. Where that is not Tendril's, pods start
// with their default network alone.
func (l *nodeList) conf() {
	h := l.f.Host
	switch {
	case len(h.ConfFiles) == 0:
		l.fail("cni conf", "install a default network", "%s has no file", h.CNIConfDir)
	case !h.ConfFiles[0].Own:
		l.fail("cni conf", fmt.Sprintf("take %s out of %s", h.ConfFiles[0].Name, h.CNIConfDir),
			"the runtime takes %s (%s) before Tendril's: pods get no further networks", h.ConfFiles[0].Name, h.ConfFiles[0].Network)
	default:
		l.ok("cni conf", "%s comes first in %s", h.ConfFiles[0].Name, h.CNIConfDir)
	}
	for _, c := range h.ConfFiles {
		if slices.ContainsFunc(c.Types, func(t string) bool { return strings.HasPrefix(t, "multus") }) {
			l.warn("other cni", "kubectl tendril migrate, then remove its DaemonSet", "%s is of Multus", c.Name)
		}
		if c.Error != "" {
			l.warn("cni conf", "remove or correct the file", "%s cannot be used: %s", c.Name, c.Error)
		}
	}
	switch n := l.f.Networks; {
	case n == nil:
	case n.DefaultError != "":
		l.fail("default net", "install a default network", "%s", n.DefaultError)
	case n.Default != nil:
		l.ok("default net", "%s (%s)", n.Default.Name, strings.Join(n.Default.Types, ", "))
	}
}

func (l *nodeList) plugins() {
	h := l.f.Host
	if !slices.Contains(h.Plugins, "tendril") {
		l.fail("shim", "the daemon installs it when it starts: see its log, and --cni-bin-dir", "%s has no executable tendril", h.CNIBinDir)
		return
	}
	var missing []string
	if n := l.f.Networks; n != nil && n.Default != nil {
		for _, t := range n.Default.Types {
			if !slices.Contains(h.Plugins, t) && !slices.Contains(n.Kinds, t) {
				missing = append(missing, t)
			}
		}
	}
	if len(missing) > 0 {
		l.fail("plugins", "install them into "+h.CNIBinDir, "the default network needs %s, which %s has not", strings.Join(missing, ", "), h.CNIBinDir)
		return
	}
	l.ok("plugins", "%d executables in %s", len(h.Plugins), h.CNIBinDir)
}

func (l *nodeList) journal() {
	h := l.f.Host
	if h.Unfinished+h.Spooled == 0 {
		l.ok("journal", "%d attachments, nothing owed", h.Attachments)
		return
	}
	l.warn("journal", "normal while pods start and end; if it stays: the daemon's log names them", "%d attachments, %d unfinished, %d DELs owed", h.Attachments, h.Unfinished, h.Spooled)
}

func (l *nodeList) vfs() {
	inv := l.f.Inventory
	if inv == nil || len(inv.PFs) == 0 {
		return
	}
	if inv.Incomplete != "" {
		l.add(Unknown, "vfs", "", "%s", inv.Incomplete)
	}
	counts := map[string]int{}
	for _, v := range inv.VFs {
		counts[v.State]++
	}
	if bad := counts[inspect.Quarantined] + counts[inspect.Unfit]; bad > 0 {
		l.warn("vfs", "kubectl tendril vfs -o wide says why", "%d of %d cannot be given out", bad, len(inv.VFs))
	} else {
		l.ok("vfs", "%d on %d PFs", len(inv.VFs), len(inv.PFs))
	}
	for _, p := range inv.PFs {
		if !p.LinkUp && p.NumVFs > 0 {
			l.warn("link", "check cable and switch", "PF %s has VFs and no link", p.Name)
		}
	}
}

func (l *nodeList) pools() {
	if l.f.Pools == nil {
		return
	}
	for _, source := range slices.Sorted(maps.Keys(l.f.Pools.Refused)) {
		l.fail("pools", "correct it; until then what was good before is served", "the configuration from %s is not in force: %s", source, l.f.Pools.Refused[source])
	}
	for _, p := range l.f.Pools.Pools {
		n := 0
		for _, d := range p.Devices {
			if d.Unhealthy == "" {
				n++
			}
		}
		switch {
		case len(p.Devices) == 0:
			l.warn("pools", "its selectors match nothing here; kubectl tendril vfs lists what there is", "%s has no device", p.Resource)
		default:
			l.ok("pools", "%s: %d of %d devices offered", p.Resource, n, len(p.Devices))
		}
	}
}

// WantsUserspace reports whether policies want any VF on vfio-pci.
func WantsUserspace(policies []vf.Policy) bool {
	return slices.ContainsFunc(policies, func(q vf.Policy) bool {
		return slices.ContainsFunc(q.Groups, func(g vf.Group) bool { return g.Driver == vf.VFIO })
	})
}
