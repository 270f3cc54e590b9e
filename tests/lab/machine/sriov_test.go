//go:build lab

package machine_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// These tests run inside a machine:
//
//	go test -tags lab -exec "lab exec" ./tests/lab/machine

func pfs(t *testing.T) []string {
	t.Helper()
	if os.Getenv("TENDRIL_LAB_GUEST") == "" {
		t.Fatal("not inside a lab machine: run with go test -exec 'lab exec'")
	}
	return []string{"sriov0", "sriov1"}
}

// functions returns the PCI directories of the VFs of a PF, in order.
func functions(t *testing.T, pf string) []string {
	t.Helper()
	var dirs []string
	for _, link := range glob(t, "/sys/class/net/"+pf+"/device/virtfn*") {
		dir, err := filepath.EvalSymlinks(link)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func linkTarget(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(target)
}

func TestVFsAppearWithTheirDriver(t *testing.T) {
	total := 0
	for _, pf := range pfs(t) {
		if got := linkTarget(t, "/sys/class/net/"+pf+"/device/driver"); got != "igb" {
			t.Errorf("driver of %s is %q, want igb", pf, got)
		}
		for _, vf := range functions(t, pf) {
			total++
			if got := linkTarget(t, vf+"/driver"); got != "igbvf" {
				t.Errorf("driver of %s is %q, want igbvf", vf, got)
			}
			if links := glob(t, vf+"/net/*"); len(links) != 1 {
				t.Errorf("%s has interfaces %v, want one", vf, links)
			}
		}
	}
	if total != 14 {
		t.Errorf("have %d VFs, want 14", total)
	}
}

func TestEachVFHasItsOwnIOMMUGroup(t *testing.T) {
	seen := map[string]string{}
	for _, pf := range pfs(t) {
		for _, vf := range functions(t, pf) {
			group := linkTarget(t, vf+"/iommu_group")
			if other, taken := seen[group]; taken {
				t.Errorf("%s and %s share IOMMU group %s", vf, other, group)
			}
			seen[group] = vf
		}
	}
}

func TestVFTakesMACAndVLAN(t *testing.T) {
	for i, name := range pfs(t) {
		pf, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		mac := []byte{2, 0, 0, 0, byte(i), 3}
		if err := netlink.LinkSetVfHardwareAddr(pf, 3, mac); err != nil {
			t.Fatalf("set MAC of VF 3 of %s: %v", name, err)
		}
		if err := netlink.LinkSetVfVlanQos(pf, 3, 42, 5); err != nil {
			t.Fatalf("set VLAN of VF 3 of %s: %v", name, err)
		}
		vf := vfInfo(t, name, 3)
		if vf.Mac.String() != net.HardwareAddr(mac).String() || vf.Vlan != 42 || vf.Qos != 5 {
			t.Errorf("VF 3 of %s has MAC %s VLAN %d QoS %d, want %s, 42, 5", name, vf.Mac, vf.Vlan, vf.Qos, net.HardwareAddr(mac))
		}
		if err := netlink.LinkSetVfVlanQos(pf, 3, 0, 0); err != nil {
			t.Errorf("take VLAN from VF 3 of %s: %v", name, err)
		}
	}
}

func vfInfo(t *testing.T, pf string, id int) netlink.VfInfo {
	t.Helper()
	link, err := netlink.LinkByName(pf)
	if err != nil {
		t.Fatal(err)
	}
	for _, vf := range link.Attrs().Vfs {
		if vf.ID == id {
			return vf
		}
	}
	t.Fatalf("%s has no VF %d", pf, id)
	return netlink.VfInfo{}
}

func TestVFGoesToVFIOAndBack(t *testing.T) {
	dir := functions(t, pfs(t)[0])[6]
	address := filepath.Base(dir)
	rebind := func(override string) {
		write(t, dir+"/driver_override", override+"\n")
		write(t, dir+"/driver/unbind", address)
		write(t, "/sys/bus/pci/drivers_probe", address)
	}
	rebind("vfio-pci")
	if got := linkTarget(t, dir+"/driver"); got != "vfio-pci" {
		t.Errorf("driver is %q, want vfio-pci", got)
	}
	if _, err := os.Stat("/dev/vfio/" + linkTarget(t, dir+"/iommu_group")); err != nil {
		t.Errorf("device node of the group: %v", err)
	}
	rebind("")
	if got := linkTarget(t, dir+"/driver"); got != "igbvf" {
		t.Errorf("driver is %q, want igbvf", got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o200); err != nil {
		t.Fatal(err)
	}
}

// The kinds of interface that pods get must all be there, loaded on demand.
func TestKindsOfInterface(t *testing.T) {
	parent, err := netlink.LinkByName(pfs(t)[1])
	if err != nil {
		t.Fatal(err)
	}
	on := func(name string) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, ParentIndex: parent.Attrs().Index}
	}
	for _, link := range []netlink.Link{
		&netlink.Macvlan{LinkAttrs: on("t-macvlan"), Mode: netlink.MACVLAN_MODE_BRIDGE},
		&netlink.IPVlan{LinkAttrs: on("t-ipvlan"), Mode: netlink.IPVLAN_MODE_L2},
		&netlink.Vlan{LinkAttrs: on("t-vlan"), VlanId: 7},
		&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "t-dummy"}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "t-veth"}, PeerName: "t-peer"},
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "t-bridge"}},
		&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "t-vxlan"}, VxlanId: 9, Port: 4789},
		netlink.NewLinkBond(netlink.LinkAttrs{Name: "t-bond"}),
		&netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: "t-vrf"}, Table: 99},
	} {
		if err := netlink.LinkAdd(link); err != nil {
			t.Errorf("add %s: %v", link.Type(), err)
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Errorf("delete %s: %v", link.Type(), err)
		}
	}
}

func TestRepositoryIsHere(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(wd, "tests/lab/machine") {
		t.Errorf("working directory is %s, want the package's own", wd)
	}
	if _, err := os.ReadFile("sriov_test.go"); err != nil {
		t.Error(err)
	}
}

func TestPFsGetCarrier(t *testing.T) {
	for _, pf := range pfs(t) {
		deadline := time.Now().Add(20 * time.Second)
		for {
			carrier, err := os.ReadFile("/sys/class/net/" + pf + "/carrier")
			if err == nil && strings.TrimSpace(string(carrier)) == "1" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has no carrier: %q, %v", pf, carrier, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}
