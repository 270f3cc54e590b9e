//go:build cluster

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/tests/stage"
)

// whereabouts is a definition as its users have it: six addresses for two nodes.
const whereabouts = `{"cniVersion":"0.3.1","name":"shared","type":"macvlan","master":"sriov1","mode":"bridge",
	"ipam":{"type":"whereabouts","range":"10.98.0.0/29","log_file":"/var/log/whereabouts.log","log_level":"error","network_name":"shared"}}`

// addresses are shared by both nodes: no two pods have one, each reaches all
// others, and what a deleted pod had is there for a pod of the other node.
func (p *play) addresses(t *testing.T) {
	p.Create(t, stage.Network{Name: "shared", Config: whereabouts})
	var pods []stage.Pod
	var names []string
	for i := range 6 {
		pods = append(pods, stage.Pod{Name: fmt.Sprintf("shared-%d", i), Node: 1 + i%2, Networks: "shared"})
		names = append(names, pods[i].Name)
	}
	p.Start(t, pods...)
	owners := map[string]string{}
	for _, name := range names {
		ips := p.sharedIPs(t, name)
		if len(ips) != 1 || owners[ips[0]] != "" {
			t.Fatalf("pod %s has %v, the others %v", name, ips, owners)
		}
		owners[ips[0]] = name
	}
	for ip := range owners {
		if ip != p.sharedIPs(t, names[0])[0] {
			p.must(t, p.Ping(p.ctx, names[0], "net1", ip))
		}
	}
	// The range is used up: one more waits, and is told who has the addresses.
	late := stage.Pod{Name: "shared-late", Node: 2, Networks: "shared"}
	p.Create(t, late)
	p.Wait(t, "the refusal of one pod more", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name=shared-late", "-o", "jsonpath={.items[*].message}")
		return out, strings.Contains(out, "6 addresses, 6 with nodes") && strings.Contains(out, "node1 3") && strings.Contains(out, "node2 3"), err
	})
	freed := p.sharedIPs(t, names[0])
	p.must(t, p.PodGone(p.ctx, names[0]))
	p.must(t, p.PodReady(p.ctx, "shared-late"))
	if got := p.sharedIPs(t, "shared-late"); got[0] != freed[0] {
		t.Errorf("the late pod has %v, want %v, which is free again", got, freed)
	}
	p.gone(t, append(names[1:], "shared-late")...)
	p.Wait(t, "every address to be nobody's", func(ctx context.Context) (string, bool, error) {
		out, err := p.Kubectl(ctx, "get", "addressblock", "10-98-0-0.shared", "-o", "jsonpath={.spec.slots}")
		return out, strings.TrimSpace(out) == "", err
	})
}

// sharedIPs are the addresses of a pod's net1, as its network-status tells.
func (p *play) sharedIPs(t *testing.T, pod string) []string {
	t.Helper()
	list, err := p.Interfaces(p.ctx, pod)
	p.must(t, err)
	for _, i := range list {
		if i.Name == "net1" {
			return i.IPs
		}
	}
	t.Fatalf("pod %s has no net1: %+v", pod, list)
	return nil
}
