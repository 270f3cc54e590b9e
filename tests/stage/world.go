package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// worldScript prints what attachments change on a node: links, VFs as the PF
// sees them, where each VF's device is, namespaces, and what the daemon says it
// holds. Pods' own veths come and go with the default network and are left out.
const worldScript = `
# cni0 is the default network's own bridge: it comes with the first pod and stays.
echo links: $(ls /sys/class/net | grep -v -e ^veth -e ^cni0$ | sort)
for pf in sriov0 sriov1; do
  ip link show $pf | grep -o 'vf [0-9].*'
  for v in /sys/class/net/$pf/device/virtfn*; do echo $(basename $(readlink $v)) $(ls $v/net 2>/dev/null || echo away); done
done
echo namespaces: $(ls /run/netns 2>/dev/null | wc -l)
echo bridge addresses: $(ls /var/lib/cni/networks/lab 2>/dev/null | grep -c '^10\.')
busybox wget -qO- http://127.0.0.1:9771/metrics | grep '^tendril_held'
`

// World returns node n as text: equal text, equal world.
func (s *Stage) World(ctx context.Context, n int) (string, error) {
	return s.Script(ctx, n, worldScript)
}

// Worlds returns all nodes.
func (s *Stage) Worlds(ctx context.Context) ([]string, error) {
	var out []string
	for n := 1; n <= s.Nodes(); n++ {
		w, err := s.World(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// AwaitWorlds waits until every node is again as it was.
func (s *Stage) AwaitWorlds(ctx context.Context, want []string) error {
	return s.Await(ctx, "the nodes to be as before", func(ctx context.Context) (string, bool, error) {
		got, err := s.Worlds(ctx)
		if err != nil {
			return "", false, err
		}
		for i := range want {
			if got[i] != want[i] {
				return fmt.Sprintf("node %d is\n%s\nand was\n%s", i+1, got[i], want[i]), false, nil
			}
		}
		return "", true, nil
	})
}

// Interface is one line of what a pod has, as the pod's network-status and the
// PF tell it.
type Interface struct {
	Pod, Network, Name string
	Kind               string
	Device             string
	IPs                []string
	MAC                string
	// VLAN is what the PF enforces on the VF; 0 for none.
	VLAN int
}

// Interfaces reads a pod's network-status and completes it.
func (s *Stage) Interfaces(ctx context.Context, pod string) ([]Interface, error) {
	raw, err := s.Kubectl(ctx, "get", "pod", pod, "-o", `jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`)
	if err != nil {
		return nil, err
	}
	var status []struct {
		Name, Interface, MAC string
		IPs                  []string
		DeviceInfo           struct {
			PCI struct {
				Address string `json:"pci-address"`
			}
		} `json:"device-info"`
	}
	if err := json.Unmarshal([]byte(raw), &status); err != nil {
		return nil, fmt.Errorf("read network-status of %s (%q): %w", pod, raw, err)
	}
	var out []Interface
	for _, st := range status {
		i := Interface{Pod: pod, Network: st.Name, Name: st.Interface, Device: st.DeviceInfo.PCI.Address, IPs: st.IPs, MAC: st.MAC}
		if i.Kind, err = s.kind(ctx, st.Name); err != nil {
			return nil, err
		}
		if i.Device != "" {
			if i.VLAN, err = s.vlan(ctx, pod, i.Device); err != nil {
				return nil, err
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// kind reads the type from the network's definition; the default network has
// none.
func (s *Stage) kind(ctx context.Context, network string) (string, error) {
	_, name, ok := strings.Cut(network, "/")
	if !ok {
		return "default", nil
	}
	raw, err := s.Kubectl(ctx, "get", "net-attach-def", name, "-o", "jsonpath={.spec.config}")
	if err != nil {
		return "", err
	}
	var conf struct {
		Type    string
		Plugins []struct{ Type string }
	}
	if err := json.Unmarshal([]byte(raw), &conf); err != nil {
		return "", err
	}
	if len(conf.Plugins) > 0 {
		return conf.Plugins[0].Type, nil
	}
	return conf.Type, nil
}

// vlan asks the PF on the pod's node what it enforces on the VF.
func (s *Stage) vlan(ctx context.Context, pod, device string) (int, error) {
	node, err := s.Kubectl(ctx, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	if err != nil {
		return 0, err
	}
	n := int(node[len(node)-1] - '0')
	out, err := s.Script(ctx, n, fmt.Sprintf(`
cd /sys/bus/pci/devices/%s/physfn
for v in virtfn*; do [ "$(basename $(readlink $v))" = %s ] && echo ${v#virtfn}; done
ip -j link show $(ls net)`, filepath.Base(device), filepath.Base(device)))
	if err != nil {
		return 0, err
	}
	index, list, _ := strings.Cut(out, "\n")
	var links []struct {
		VFs []struct {
			VF    int
			VLANs []struct{ VLAN int } `json:"vlan_list"`
		} `json:"vfinfo_list"`
	}
	if err := json.Unmarshal([]byte(list), &links); err != nil {
		return 0, fmt.Errorf("read VFs of node %d (%q): %w", n, out, err)
	}
	for _, l := range links {
		for _, v := range l.VFs {
			if fmt.Sprint(v.VF) == strings.TrimSpace(index) && len(v.VLANs) > 0 {
				return v.VLANs[0].VLAN, nil
			}
		}
	}
	return 0, nil
}
