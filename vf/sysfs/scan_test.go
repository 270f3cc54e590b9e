package sysfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

var (
	pf0  = vf.MustAddr("0000:01:00.0")
	vf01 = vf.MustAddr("0000:01:10.2")
)

func scan(t *testing.T, archive string) (vf.Snapshot, []string) {
	t.Helper()
	snap, skipped, err := sysfs.New(vftest.Tree(t, archive)).Scan()
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, s := range skipped {
		named = append(named, strings.TrimPrefix(s.Path, "bus/pci/devices/"))
	}
	return snap, named
}

func TestScan(t *testing.T) {
	snap, skipped := scan(t, vftest.TwoNICs())
	if len(skipped) > 0 {
		t.Errorf("skipped %v", skipped)
	}
	pfs := []vf.PF{{
		Addr: pf0, Netdev: "sriov0", Vendor: "8086", Device: "10c9", Driver: "igb", LinkType: "ether",
		MTU: 1500, AdminUp: true, LinkUp: true, MAC: "52:54:00:00:01:00", TotalVFs: 7, NumVFs: 7, Autoprobe: true, IOMMUGroup: 20,
	}, {
		Addr: vf.MustAddr("0000:02:00.0"), Netdev: "sriov1", Vendor: "8086", Device: "10c9", Driver: "igb", NUMANode: 1,
		LinkType: "ether", MTU: 1500, AdminUp: true, LinkUp: true, MAC: "52:54:00:00:02:00", TotalVFs: 7, NumVFs: 2, Autoprobe: true, IOMMUGroup: 30,
	}}
	opt := cmp.Comparer(func(a, b vf.Addr) bool { return a == b })
	if d := cmp.Diff(pfs, snap.PFs, opt); d != "" {
		t.Errorf("PFs (-want +got):\n%s", d)
	}
	if len(snap.VFs) != 9 {
		t.Fatalf("%d VFs, want 9", len(snap.VFs))
	}
	want := vf.VF{
		Addr: vf.MustAddr("0000:01:11.4"), PF: pf0, Index: 6, Netdev: "sriov0v6", Vendor: "8086", Device: "10ca",
		Driver: "igbvf", IOMMUGroup: 27, LinkType: "ether", MTU: 1500,
	}
	if d := cmp.Diff(want, snap.VFs[6], opt); d != "" {
		t.Errorf("VF 6 (-want +got):\n%s", d)
	}
}

// Each row breaks one thing; the rest of the inventory must stand, and what is
// broken be named.
func TestScanGoesOn(t *testing.T) {
	const v = "devices/pci0000:00/0000:01:10.2/"
	const p = "devices/pci0000:00/0000:01:00.0/"
	rows := []struct {
		name, change string
		pfs, vfs     int
		named        []string
		check        func(vf.VF) bool // of 0000:01:10.2
	}{
		{"numa node is a word", "-- " + v + "numa_node --\nleft\n", 2, 9, []string{"0000:01:10.2/numa_node"}, func(x vf.VF) bool { return x.NUMANode == -1 }},
		{"numa node below -1", "-- " + v + "numa_node --\n-7\n", 2, 9, nil, func(x vf.VF) bool { return x.NUMANode == -1 }},
		{"numa node absent", "-- LINKS --\n!" + v + "numa_node\n", 2, 9, nil, func(x vf.VF) bool { return x.NUMANode == -1 }},
		{"vendor unreadable", "-- LINKS --\n" + v + "vendor/\n", 2, 9, []string{"0000:01:10.2/vendor"}, func(x vf.VF) bool { return x.Vendor == "" && x.Device == "10ca" }},
		{"class unreadable", "-- LINKS --\n" + v + "class/\n", 2, 8, []string{"0000:01:10.2/class"}, nil},
		{"class absent", "-- LINKS --\n!" + v + "class\n", 2, 8, nil, nil},
		{"not a network function", "-- " + v + "class --\n0x0b4000\n", 2, 8, nil, nil},
		{"physfn is no address", "-- LINKS --\n" + v + "physfn -> ../elsewhere\n", 2, 8, []string{"0000:01:10.2/physfn"}, nil},
		{"physfn absent", "-- LINKS --\n!" + v + "physfn\n", 3, 8, nil, nil},
		{"no driver", "-- LINKS --\n!" + v + "driver\n", 2, 9, nil, func(x vf.VF) bool { return x.Driver == "" }},
		{"no IOMMU", "-- LINKS --\n!" + v + "iommu_group\n", 2, 9, nil, func(x vf.VF) bool { return x.IOMMUGroup == -1 }},
		{"group is a word", "-- LINKS --\n" + v + "iommu_group -> ../groups/none\n", 2, 9, []string{"0000:01:10.2/iommu_group"}, func(x vf.VF) bool { return x.IOMMUGroup == -1 }},
		{"in a pod", "-- LINKS --\n" + v + "net/\n", 2, 9, nil, func(x vf.VF) bool { return x.Netdev == "" && x.LinkType == "ether" }},
		{"virtfn of the PF absent", "-- LINKS --\n!" + p + "virtfn1\n", 2, 9, []string{"0000:01:10.2"}, func(x vf.VF) bool { return x.Index == -1 }},
		{"virtfn is a word", "-- LINKS --\n" + p + "virtfnx -> ../0000:01:10.2\n", 2, 9, []string{"0000:01:00.0/virtfnx"}, func(x vf.VF) bool { return x.Index == 1 }},
		{"VF count is huge", "-- " + p + "sriov_totalvfs --\n99999999999\n", 2, 9, []string{"0000:01:00.0/sriov_totalvfs"}, nil},
		{"VF count is negative", "-- " + p + "sriov_totalvfs --\n-1\n", 2, 9, []string{"0000:01:00.0/sriov_totalvfs"}, nil},
		{"entry is no address", "-- bus/pci/devices/pcie00/class --\n0x020000\n", 2, 9, []string{"pcie00"}, nil},
		{"dangling entry", "-- LINKS --\nbus/pci/devices/0000:09:00.0 -> ../gone\n", 2, 9, nil, nil},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			snap, named := scan(t, vftest.TwoNICs()+r.change)
			if len(snap.PFs) != r.pfs || len(snap.VFs) != r.vfs {
				t.Errorf("%d PFs and %d VFs, want %d and %d", len(snap.PFs), len(snap.VFs), r.pfs, r.vfs)
			}
			if d := cmp.Diff(r.named, named); d != "" {
				t.Errorf("named (-want +got):\n%s", d)
			}
			v, ok := snap.VF(vf01)
			if r.check != nil && (!ok || !r.check(v)) {
				t.Errorf("VF is %+v", v)
			}
		})
	}
}

func TestScanWithoutPCI(t *testing.T) {
	snap, skipped, err := sysfs.New(t.TempDir()).Scan()
	if err != nil || len(skipped) > 0 || len(snap.PFs)+len(snap.VFs) > 0 {
		t.Errorf("got %v, %v, %v; want an empty inventory", snap, skipped, err)
	}
}

func TestUplinkRepresentorStandsForPF(t *testing.T) {
	const net = "devices/pci0000:00/0000:01:00.0/net/"
	snap, _ := scan(t, vftest.TwoNICs()+
		"-- "+net+"eth0rep/type --\n1\n-- "+net+"eth0rep/phys_port_name --\npf0vf0\n-- "+net+"sriov0/phys_port_name --\np0\n")
	if p, _ := snap.PF(pf0); p.Netdev != "sriov0" {
		t.Errorf("PF netdev %q, want sriov0", p.Netdev)
	}
}

func TestLookups(t *testing.T) {
	fs := sysfs.New(vftest.Tree(t, vftest.TwoNICs()+"-- LINKS --\ndevices/pci0000:00/0000:01:10.4/net/\n"))
	v, err := fs.VF(vf01)
	if err != nil || v.Index != 1 || v.PF != pf0 || v.Netdev != "sriov0v1" {
		t.Errorf("VF: %+v, %v", v, err)
	}
	if p, err := fs.PF(v.PF); err != nil || p.Netdev != "sriov0" || p.NumVFs != 7 {
		t.Errorf("PF: %+v, %v", p, err)
	}
	if n, err := fs.Netdevs(vf.MustAddr("0000:01:10.4")); err != nil || len(n) > 0 {
		t.Errorf("netdevs of a VF in a pod: %v, %v", n, err)
	}
	gone := vf.MustAddr("0000:7f:00.0")
	for what, err := range map[string]error{
		"VF": second(fs.VF(gone)), "PF": second(fs.PF(gone)), "Netdevs": second(fs.Netdevs(gone)),
	} {
		if !errors.Is(err, sysfs.ErrAbsent) {
			t.Errorf("%s of an absent function: %v", what, err)
		}
	}
	if _, err := fs.VF(pf0); !errors.Is(err, sysfs.ErrNotVF) {
		t.Errorf("VF of a PF: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// FuzzAttributes puts any bytes into the attributes of one VF and its PF. The
// other NIC must stay whole, and no number may leave its range.
func FuzzAttributes(f *testing.F) {
	root := vftest.Tree(f, vftest.TwoNICs())
	fs := sysfs.New(root)
	for _, s := range []string{"", "-1", "0x", "7\x00", "  1\n", "9223372036854775808", "-", "\xff\xfe", "0x020000", strings.Repeat("9", 5000)} {
		f.Add([]byte(s), "numa_node")
		f.Add([]byte(s), "class")
	}
	for _, n := range []string{"vendor", "device", "net/sriov0v1/mtu", "net/sriov0v1/type"} {
		f.Add([]byte("-3"), n)
	}
	f.Fuzz(func(t *testing.T, value []byte, name string) {
		if !filepath.IsLocal(name) {
			t.Skip()
		}
		path := filepath.Join(root, "bus/pci/devices/0000:01:10.2", name)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Skip()
		}
		if err := os.WriteFile(path, value, 0o644); err != nil {
			t.Skip()
		}
		defer func() { _ = os.WriteFile(path, before, 0o644) }()
		snap, _, err := fs.Scan()
		if err != nil {
			t.Fatal(err)
		}
		if len(snap.PFs) != 2 || len(snap.VFs) < 8 {
			t.Errorf("%d PFs, %d VFs", len(snap.PFs), len(snap.VFs))
		}
		for _, v := range snap.VFs {
			if v.NUMANode < -1 || v.MTU < 0 || v.IOMMUGroup < -1 || v.Index < 0 {
				t.Errorf("out of range: %+v", v)
			}
		}
	})
}

func BenchmarkScan1024VFs(b *testing.B) {
	var nics []vftest.NIC
	for i := range 8 {
		nics = append(nics, vftest.NIC{Addr: fmt.Sprintf("0000:%02x:00.0", 0x10+4*i), Netdev: fmt.Sprintf("p%d", i), VFs: 128, Group: 200 * i})
	}
	fs := sysfs.New(vftest.Tree(b, vftest.Archive(nics...)))
	for b.Loop() {
		snap, skipped, err := fs.Scan()
		if err != nil || len(skipped) > 0 || len(snap.VFs) != 1024 {
			b.Fatal(len(snap.VFs), skipped, err)
		}
	}
}
