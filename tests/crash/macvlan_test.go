package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/tests/crash/sweep"
)

// macvlans are a default network and two more, all macvlan, one of them dual
// stack.
var macvlans = sweep.Sweep{Attachments: 3, World: podLinks, Stand: func(t *testing.T) *sweep.Stand {
	master, _ := netnstest.Veth(t)
	conf := func(ranges string) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","type":"macvlan","master":%q,"ipam":{"type":"host-local","ranges":%s}}`, master.Attrs().Name, ranges)
	}
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	return sweep.NewStand(t, sweep.Scene{Sysfs: sys, Annotation: "one,two", Definitions: map[string]string{
		"one": conf(`[[{"subnet":"192.0.2.0/29"}]]`),
		"two": conf(`[[{"subnet":"198.51.100.0/29"}],[{"subnet":"fd00::/64"}]]`),
	}, Default: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"203.0.113.0/29"}}]}`, master.Attrs().Name)})
}}

func TestInvariant3SweepMacvlan(t *testing.T) { macvlans.JournalSteps(t) }

func TestInvariant3SweepMacvlanKernelCalls(t *testing.T) { macvlans.KernelCalls(t, 1) }

// podLinks prints the links of the pod with their addresses.
func podLinks(s *sweep.Stand) string {
	s.T.Helper()
	return podLinksOf(s.T, s.Pod)
}

func podLinksOf(t *testing.T, pod *os.File) string {
	t.Helper()
	h := netnstest.Handle(t, pod)
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range links {
		addrs, err := h.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		line := l.Type() + " " + l.Attrs().Name
		for _, a := range addrs {
			line += " " + a.IPNet.String()
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// countLinks counts the interfaces that attachments made.
func countLinks(links string) int { return strings.Count(links, "macvlan ") }
