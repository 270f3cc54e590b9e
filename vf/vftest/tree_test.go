package vftest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/vf/vftest"
)

func TestTreeResolvesLikeSysfs(t *testing.T) {
	root := vftest.Tree(t, vftest.TwoNICs()+`
-- bus/pci/devices/0000:05:00.0/vendor --
0x1234
-- LINKS --
# the driver went away
!devices/pci0000:00/0000:01:10.2/driver
devices/pci0000:00/0000:01:10.4/net/
`)
	read := func(p string) string {
		b, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("class/net/sriov0v6/device/device"); got != "0x10ca\n" {
		t.Errorf("device id of VF 6 by its netdev: %q", got)
	}
	if got := read("bus/pci/devices/0000:01:00.0/virtfn6/physfn/sriov_numvfs"); got != "7\n" {
		t.Errorf("VF count through virtfn6/physfn: %q", got)
	}
	if got := read("bus/pci/drivers/igbvf/0000:02:10.2/class"); got != "0x020000\n" {
		t.Errorf("class through the driver's link: %q", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "bus/pci/devices/0000:01:10.2/driver")); !os.IsNotExist(err) {
		t.Errorf("removed link: %v", err)
	}
	if e, err := os.ReadDir(filepath.Join(root, "bus/pci/devices/0000:01:10.4/net")); err != nil || len(e) != 0 {
		t.Errorf("emptied directory: %v %v", e, err)
	}
}

func TestVFAddr(t *testing.T) {
	n := vftest.Igb()
	for i, want := range []string{"0000:01:10.0", "0000:01:10.2", "0000:01:10.4", "0000:01:10.6", "0000:01:11.0", "0000:01:11.2", "0000:01:11.4"} {
		if got := n.VFAddr(i); got != want {
			t.Errorf("VF %d: got %s, want %s", i, got, want)
		}
	}
}
