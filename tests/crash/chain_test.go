package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// chains are a macvlan with tuning and sbr behind it and a port of a bridge,
// beside a default network.
var chains = sweep.Sweep{Attachments: 3, World: func(s *sweep.Stand) string { return podLinks(s) + podSettings(s) }, Stand: func(t *testing.T) *sweep.Stand {
	master, _ := netnstest.Veth(t)
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	name := master.Attrs().Name
	if br, err := netlink.LinkByName("crashbr0"); err == nil { // it stays behind by design
		if err := netlink.LinkDel(br); err != nil {
			t.Fatal(err)
		}
	}
	return sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "tuned,port", Definitions: map[string]string{
		"tuned": fmt.Sprintf(`{"cniVersion":"1.0.0","name":"tuned","plugins":[
			{"type":"macvlan","master":%q,"ipam":{"type":"host-local","ranges":[[{"subnet":"192.0.2.0/29"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
			{"type":"tuning","mac":"02:00:00:00:00:77","mtu":1300,"promisc":true,"sysctl":{"net.ipv4.conf.all.arp_ignore":"2","net.ipv4.conf.IFNAME.arp_filter":"1"}},
			{"type":"sbr"}]}`, name),
		"port": `{"cniVersion":"1.0.0","name":"port","type":"bridge","bridge":"crashbr0","isGateway":true,"ipam":{"type":"host-local","subnet":"198.51.100.0/29"}}`,
	}, Default: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`, name)})
}}

func TestInvariant3SweepChain(t *testing.T) { chains.JournalSteps(t) }

func TestInvariant3SweepChainKernelCalls(t *testing.T) { chains.KernelCalls(t, 1) }

// l3mdev is the priority of the kernel's own rule for VRFs (net/l3mdev).
const l3mdev = 1000

// podSettings prints, on the line that podLinks ends with, what of the pod beside
// its links a chain may change.
func podSettings(s *sweep.Stand) string {
	s.T.Helper()
	h := netnstest.Handle(s.T, s.Pod)
	defer h.Close()
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		s.T.Fatal(err)
	}
	var words []string
	for _, r := range rules {
		if r.Priority == l3mdev {
			continue // the kernel adds it with the first VRF, for good
		}
		words = append(words, fmt.Sprint(r.Priority, r.Src, r.Table))
	}
	err = netns.Do(s.Pod, func() error {
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/arp_ignore")
		words = append(words, strings.TrimSpace(string(value)))
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return strings.Join(words, "; ")
}
