//go:build !lab

package provision_test

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/provision"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// Some NICs have all their ports behind one PCI function (Chelsio T5 and T6, ConnectX-3):
// the host's uplink need not be the first of its network devices. The representors
// of VFs, which a switch has as its ports, are listed there too and say nothing.
func TestInvariant7SecondPortOfAFunction(t *testing.T) {
	port, _ := netnstest.Veth(t)
	h := netnstest.Handle(t, nil)
	const name = "uplink1" // not the first in the list
	if err := h.LinkSetName(port, name); err != nil {
		t.Fatal(err)
	}
	const net = "devices/pci0000:00/0000:01:00.0/net/"
	second := "-- " + net + name + "/type --\n1\n"
	claim := func(more string) string {
		t.Helper()
		fs := sysfs.New(vftest.Tree(t, vftest.TwoNICs()+"-- "+net+"sriov0/phys_port_name --\np0\n"+more))
		snap, _, err := fs.Scan()
		if err != nil {
			t.Fatal(err)
		}
		claims, err := provision.Linux{FS: fs}.Claims(&snap)
		if err != nil {
			t.Fatal(err)
		}
		return claims[vf.MustAddr("0000:01:00.0")]
	}
	if got := claim(second); got != "" {
		t.Errorf("nobody uses a port, and the claim is %q", got)
	}
	a, err := netlink.ParseAddr("192.0.2.10/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(port, a); err != nil {
		t.Fatal(err)
	}
	if got := claim(second); !strings.Contains(got, name+" carries the address 192.0.2.10/24") {
		t.Errorf("the second port carries the host's address, and the claim is %q", got)
	}
	if got := claim(second + "-- " + net + name + "/phys_port_name --\npf0vf0\n"); got != "" {
		t.Errorf("a representor carries an address, and the claim is %q", got)
	}
}
