package sysfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// extras is what a Mellanox NIC, an uio and a vDPA device show, put onto the
// first igb's PF and VF 1, and an accelerator of its own.
const extras = `
-- devices/pci0000:00/0000:01:00.0/acpi_index --
3
-- devices/pci0000:00/0000:01:00.0/infiniband/mlx5_0/ports/1/pkeys/0 --
0xffff
-- devices/pci0000:00/0000:01:00.0/infiniband_verbs/uverbs0/dev --
231:192
-- devices/pci0000:00/0000:01:10.2/acpi_index --
7
-- devices/pci0000:00/0000:01:10.2/net/sriov0v1/type --
32
-- devices/pci0000:00/0000:01:10.2/infiniband/mlx5_3/ports/1/pkeys/0 --
0x8001
-- devices/pci0000:00/0000:01:10.2/infiniband_verbs/uverbs3/dev --
231:195
-- devices/pci0000:00/0000:01:10.2/infiniband_mad/umad3/dev --
231:3
-- devices/pci0000:00/0000:01:10.2/infiniband_mad/issm3/dev --
231:67
-- devices/pci0000:00/0000:01:10.4/uio/uio0/name --
igb_uio
-- kernel/iommu_groups/23/name --
vfio-noiommu
-- devices/pci0000:00/0000:01:10.6/vdpa:0000:01:10.6/vhost-vdpa-2/dev --
1:2
-- devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4/sfnum --
88
-- devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4/net/p0s88/type --
1
-- devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4/net/p0s88/mtu --
9000
-- devices/pci0000:00/0000:01:00.0/mlx5_core.eth.0/uevent --
x
-- devices/pci0000:00/0000:07:00.0/class --
0x120000
-- devices/pci0000:00/0000:07:00.0/vendor --
0x8086
-- devices/pci0000:00/0000:07:00.0/device --
0x0d8f
-- LINKS --
devices/pci0000:00/0000:01:10.4/driver -> ../../../bus/pci/drivers/vfio-pci
bus/pci/devices/0000:07:00.0 -> ../../../devices/pci0000:00/0000:07:00.0
devices/pci0000:00/0000:01:10.6/vdpa:0000:01:10.6/driver -> ../../../../bus/vdpa/drivers/vhost_vdpa
devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4/driver -> ../../../../bus/auxiliary/drivers/mlx5_core.sf
bus/auxiliary/devices/mlx5_core.sf.4 -> ../../../devices/pci0000:00/0000:01:00.0/mlx5_core.sf.4
bus/auxiliary/devices/mlx5_core.eth.0 -> ../../../devices/pci0000:00/0000:01:00.0/mlx5_core.eth.0
bus/auxiliary/devices/snd.hda.1 -> ../../../devices/pci0000:00/0000:55:00.0/snd.hda.1
`

func TestScanExtras(t *testing.T) {
	snap, skipped := scan(t, vftest.TwoNICs()+extras)
	if len(skipped) > 0 {
		t.Errorf("skipped %v", skipped)
	}
	p, _ := snap.PF(pf0)
	if d := cmp.Diff([]any{"3", []string{"mlx5_0"}, vf.Userspace{RDMA: []string{"uverbs0"}}, ""}, []any{p.ACPIIndex, p.RDMA, p.Userspace, p.PKey}); d != "" {
		t.Errorf("PF:\n%s", d)
	}
	at := func(a string) vf.VF { v, _ := snap.VF(vf.MustAddr(a)); return v }
	rows := map[string]struct{ got, want any }{
		"RDMA VF":       {[]any{at("0000:01:10.2").ACPIIndex, at("0000:01:10.2").RDMA, at("0000:01:10.2").PKey}, []any{"7", []string{"mlx5_3"}, "0x8001"}},
		"RDMA nodes":    {at("0000:01:10.2").Userspace, vf.Userspace{RDMA: []string{"issm3", "umad3", "uverbs3"}}},
		"uio, no IOMMU": {at("0000:01:10.4").Userspace, vf.Userspace{UIO: "uio0", NoIOMMU: true}},
		"vDPA":          {at("0000:01:10.6").Userspace, vf.Userspace{VDPA: vf.VDPA{Name: "vdpa:0000:01:10.6", Driver: "vhost_vdpa", Node: "vhost-vdpa-2"}}},
		"plain VF":      {at("0000:01:10.0").Userspace, vf.Userspace{}},
	}
	for name, r := range rows {
		if d := cmp.Diff(r.want, r.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if a, ok := snap.PF(vf.MustAddr("0000:07:00.0")); !ok || !a.Accelerator || a.Device != "0d8f" || p.Accelerator {
		t.Errorf("accelerator %v %+v", ok, a)
	}
	want := []vf.Aux{
		{Name: "mlx5_core.eth.0", PF: pf0, Index: -1},
		{Name: "mlx5_core.sf.4", PF: pf0, Index: 88, Driver: "mlx5_core.sf", Netdev: "p0s88", LinkType: "ether", MTU: 9000},
	}
	if d := cmp.Diff(want, snap.Aux, cmp.Comparer(func(a, b vf.Addr) bool { return a == b })); d != "" {
		t.Errorf("auxiliary devices (-want +got):\n%s", d)
	}
	if k := snap.Aux[1].Type(); k != "sf" {
		t.Errorf("type %q", k)
	}
}

// A VF that takes its RDMA device along into a pod stays an RDMA VF.
func TestInventoryKeepsRDMAOfVFsInPods(t *testing.T) {
	root := vftest.Tree(t, vftest.TwoNICs()+extras)
	inv := sysfs.NewInventory(sysfs.New(root), slog.New(slog.DiscardHandler), sysfs.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- inv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	refresh(t, inv)
	dir := filepath.Join(root, "bus/pci/devices", vf01.String())
	for _, name := range []string{"net", "infiniband"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	refresh(t, inv)
	v, _ := inv.Snapshot().VF(vf01)
	if v.Netdev != "" || !cmp.Equal(v.RDMA, []string{"mlx5_3"}) || v.PKey != "0x8001" {
		t.Errorf("%+v", v)
	}
	if err := os.Remove(filepath.Join(dir, "driver")); err != nil {
		t.Fatal(err)
	}
	refresh(t, inv)
	if v, _ = inv.Snapshot().VF(vf01); len(v.RDMA) > 0 {
		t.Errorf("without a driver there is no RDMA: %+v", v)
	}
}

func TestAt(t *testing.T) {
	fs := sysfs.New(vftest.Tree(t, vftest.TwoNICs()))
	if a, err := fs.At(pf0, 1); err != nil || a != vf01 {
		t.Errorf("%s, %v", a, err)
	}
	for _, err := range []error{second(fs.At(pf0, 7)), second(fs.At(vf.MustAddr("0000:7f:00.0"), 0))} {
		if !errors.Is(err, sysfs.ErrAbsent) {
			t.Errorf("absent VF: %v", err)
		}
	}
}

// A tree of plain files keeps what is written and does nothing with it: each write
// must find out that nothing came of it.
func TestWritesAreReadBack(t *testing.T) {
	root := vftest.Tree(t, vftest.TwoNICs()+
		"-- devices/pci0000:00/0000:01:10.2/driver_override --\n(null)\n-- bus/pci/drivers_probe --\n\n-- bus/pci/drivers/igbvf/unbind --\n\n")
	fs := sysfs.New(root)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no patience with a kernel that is none
	if err := fs.SetAutoprobe(ctx, pf0, false); err != nil {
		t.Errorf("autoprobe: %v", err)
	}
	if p, _ := fs.PF(pf0); p.Autoprobe {
		t.Error("autoprobe was not written")
	}
	if err := fs.SetNumVFs(ctx, pf0, 3); err == nil {
		t.Error("3 VFs were made of nothing")
	}
	var r *refusal.Refusal
	if err := fs.Bind(ctx, vf01, vf.VFIO); !errors.As(err, &r) || r.Field != "driver" {
		t.Errorf("bind: %v", err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("bus/pci/devices/0000:01:10.2/driver_override"); got != "\n" {
		t.Errorf("driver_override was left at %q", got)
	}
	if got := read("bus/pci/drivers/igbvf/unbind"); got != vf01.String() {
		t.Errorf("unbound %q", got)
	}
	if err := fs.Bind(ctx, vf.MustAddr("0000:01:10.4"), vf.Kernel); err != nil {
		t.Errorf("a VF that has its driver is done: %v", err)
	}
	if err := fs.SetNumVFs(ctx, vf.MustAddr("0000:7f:00.0"), 1); !errors.Is(err, sysfs.ErrAbsent) {
		t.Errorf("absent PF: %v", err)
	}
}

// message is a link event as rtnetlink sends it.
func message(kind uint16, attrs ...[]byte) []byte {
	body := append(make([]byte, unix.SizeofIfInfomsg), bytes.Join(attrs, nil)...)
	head := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(head, uint32(len(head)+len(body)))
	binary.NativeEndian.PutUint16(head[4:], kind)
	return append(head, body...)
}

func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func TestLinkConcerns(t *testing.T) {
	name := attribute(unix.IFLA_IFNAME, []byte("eth0\x00"))
	veth := attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth\x00")))
	slave := attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_SLAVE_KIND, []byte("bond\x00")))
	port := message(unix.RTM_NEWLINK, name)
	port[unix.SizeofNlMsghdr] = unix.AF_BRIDGE
	rows := map[string]struct {
		message []byte
		want    bool
	}{
		"physical":         {message(unix.RTM_NEWLINK, name), true},
		"gone":             {message(unix.RTM_DELLINK, name), true},
		"part of a bond":   {message(unix.RTM_NEWLINK, name, slave), true},
		"port of a bridge": {port, false},
		"veth":             {message(unix.RTM_NEWLINK, name, veth), false},
		"address":          {message(unix.RTM_NEWADDR, name), false},
		"veth, then a NIC": {append(message(unix.RTM_NEWLINK, veth), message(unix.RTM_NEWLINK, name)...), true},
		"empty":            {nil, false},
		"cut":              {message(unix.RTM_NEWLINK, name)[:20], false},
	}
	for what, r := range rows {
		if got := sysfs.LinkConcerns(r.message); got != r.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// FuzzLinkConcerns: whatever comes, nothing breaks.
func FuzzLinkConcerns(f *testing.F) {
	f.Add(message(unix.RTM_NEWLINK, attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth\x00")))))
	f.Add([]byte{0})
	f.Fuzz(func(_ *testing.T, b []byte) { sysfs.LinkConcerns(b) })
}
