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

// filed is a default network of type bridge, served in process with the files of
// host-local, and a macvlan beside it.
var filed = sweep.Sweep{Attachments: 2, World: func(s *sweep.Stand) string { return podLinks(s) + addressFiles(s) }, Stand: filedStand}

func filedStand(t *testing.T) *sweep.Stand {
	t.Helper()
	master, _ := netnstest.Veth(t)
	dir := t.TempDir()
	sys, files := filepath.Join(dir, "sys"), filepath.Join(dir, "cni")
	for _, path := range []string{filepath.Join(sys, "bus/pci/devices"), files} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if br, err := netlink.LinkByName("crashbr1"); err == nil { // it stays behind by design
		if err := netlink.LinkDel(br); err != nil {
			t.Fatal(err)
		}
	}
	return sweep.NewStand(t, sweep.Scene{Sysfs: sys, HostLocal: files, Annotation: "one",
		Definitions: map[string]string{"one": fmt.Sprintf(`{"cniVersion":"1.0.0","type":"macvlan","master":%q,"ipam":{"type":"host-local","subnet":"192.0.2.0/29"}}`, master.Attrs().Name)},
		Default: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"filed","plugins":[{"type":"bridge","bridge":"crashbr1","isDefaultGateway":true,
			"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"203.0.113.0/29"}],[{"subnet":"fd00:7::/64"}]]}}]}`, filepath.Join(files, "networks")),
	})
}

// addressFiles prints the addresses that are taken, on the line that podLinks ends
// with.
func addressFiles(s *sweep.Stand) string {
	s.T.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Scene.HostLocal, "networks", "filed"))
	if err != nil && !os.IsNotExist(err) {
		s.T.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved_ip.") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestInvariant3SweepFiledBridge: neither a link nor an address file is left over,
// and none is lost.
func TestInvariant3SweepFiledBridge(t *testing.T) { filed.JournalSteps(t) }

func TestInvariant3SweepFiledBridgeKernelCalls(t *testing.T) { filed.KernelCalls(t, 1) }
