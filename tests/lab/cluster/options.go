package cluster

import (
	"fmt"
	"net/netip"

	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// Options say what Start starts.
type Options struct {
	// Nodes is how many nodes there are: 1 (also when zero) or 2.
	Nodes int
	// Machine is what each machine is made from; its Index is set here, and a disk is added.
	Machine machine.Options
	// Dir keeps the control plane's state, logs and kubeconfigs. If empty, a temporary directory does
	// until Close.
	Dir string
	// Kubelet replaces top-level fields of the kubelets' configuration, for example
	// {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}.
	Kubelet map[string]any
	// CRDs and Audit are as in kube.Options.
	CRDs  []string
	Audit string
	// Images are archives whose images every node has from its start.
	Images []string
	// Progress, if set, is told in a few words what has been reached. Several goroutines call it.
	Progress func(reached string)
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

func (o Options) nodes() (int, error) {
	switch {
	case o.Nodes == 0:
		return 1, nil
	case o.Nodes < 0 || o.Nodes > machine.MaxMachines:
		return 0, fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, machine.MaxMachines)
	}
	return o.Nodes, nil
}

// hostAddress is where the control plane is on the machines' wire, and port its API server's: the lab
// has a network of its own, so nothing else can have it.
var hostAddress = netip.MustParseAddr("10.77.0.1")

const apiPort = 6443

// NodeName is the name of node n.
func NodeName(n int) string { return fmt.Sprintf("node%d", n) }

// PodCIDR is the range that the default network gives the pods of node n their addresses from.
func PodCIDR(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24)
}
