package deviceplugin_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/deviceplugin"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/sysfs"
	"github.com/tendril-cni/tendril/vf/vftest"
)

// special is added to the tree of the two igb: VF 0 of the first on igb_uio, VF 1
// on vfio-pci without an IOMMU, VF 2 with RDMA, VF 3 with vDPA; an accelerator;
// and a subfunction of the second.
const special = `
-- devices/pci0000:00/0000:01:10.0/uio/uio3/name --
igb_uio
-- kernel/iommu_groups/22/name --
vfio-noiommu
-- devices/pci0000:00/0000:01:10.4/infiniband/mlx5_2/node_type --
1: CA
-- devices/pci0000:00/0000:01:10.4/infiniband_verbs/uverbs2/ibdev --
mlx5_2
-- devices/pci0000:00/0000:01:10.4/infiniband_mad/umad2/ibdev --
mlx5_2
-- devices/pci0000:00/0000:01:10.6/vdpa0/vhost-vdpa-0/dev --
511:0
-- devices/pci0000:00/0000:f7:00.1/class --
0x120001
-- devices/pci0000:00/0000:f7:00.1/vendor --
0x8086
-- devices/pci0000:00/0000:f7:00.1/device --
0x0d5c
-- devices/pci0000:00/0000:f7:00.1/numa_node --
1
-- devices/pci0000:00/0000:02:00.0/mlx5_core.sf.4/sfnum --
88
-- LINKS --
devices/pci0000:00/0000:01:10.0/driver -> ../../../bus/pci/drivers/igb_uio
devices/pci0000:00/0000:01:10.2/driver -> ../../../bus/pci/drivers/vfio-pci
devices/pci0000:00/0000:01:10.6/vdpa0/driver -> ../../../../bus/vdpa/drivers/vhost_vdpa
bus/pci/devices/0000:f7:00.1 -> ../../../devices/pci0000:00/0000:f7:00.1
devices/pci0000:00/0000:f7:00.1/driver -> ../../../bus/pci/drivers/vfio-pci
devices/pci0000:00/0000:f7:00.1/iommu_group -> ../../../kernel/iommu_groups/90
bus/auxiliary/devices/mlx5_core.sf.4 -> ../../../devices/pci0000:00/0000:02:00.0/mlx5_core.sf.4
devices/pci0000:00/0000:02:00.0/mlx5_core.sf.4/driver -> ../../../../bus/auxiliary/drivers/mlx5_core.sf
`

// TestSysfsTree: a tree as the kernel lays it out and a configuration give these
// pools, and every device comes with its nodes at its first Allocate.
func TestSysfsTree(t *testing.T) {
	snap, skipped, err := sysfs.New(vftest.Tree(t, vftest.TwoNICs()+special)).Scan()
	if err != nil || len(skipped) > 0 {
		t.Fatal(skipped, err)
	}
	cfg := config(t, `{"resourceList":[
		{"resourceName":"uio","selectors":{"drivers":["igb_uio"]}},
		{"resourceName":"vfio","selectors":{"drivers":["vfio-pci"]}},
		{"resourceName":"rdma","selectors":{"isRdma":true}},
		{"resourceName":"vdpa","selectors":{"vdpaType":"vhost"}},
		{"resourceName":"fec","deviceType":"accelerator","selectors":{"devices":["0d5c"]}},
		{"resourceName":"sf","deviceType":"auxNetDevice","selectors":{"auxTypes":["sf"],"rootDevices":["0000:02:00.0#88"],"linkTypes":["ether"]}},
		{"resourceName":"second","selectors":{"pfNames":["sriov1#0-6"],"drivers":["igbvf"]}},
		{"resourceName":"rest","selectors":{"rootDevices":["0000:01:00.0"]}}]}`)
	pools := deviceplugin.Pools(cfg, &snap, deviceplugin.Host{Owns: func(vf.PF) string { return "" }})
	const want = `intel.com/uio: 1
  0000:01:10.0 index=0 driver=igb_uio numa=0 group=21
intel.com/vfio: 1
  0000:01:10.2 index=1 driver=vfio-pci numa=0 group=22
intel.com/rdma: 1
  0000:01:10.4 index=2 driver=igbvf numa=0 group=23 rdma=mlx5_2
intel.com/vdpa: 1
  0000:01:10.6 index=3 driver=igbvf numa=0 group=24 vdpa=vhost
intel.com/fec: 1
  0000:f7:00.1 index=-1 driver=vfio-pci numa=1 group=90
intel.com/sf: 1
  mlx5_core.sf.4 index=88 driver=mlx5_core.sf numa=1 group=-1
intel.com/second: 2
  0000:02:10.0 index=0 driver=igbvf numa=1 group=31
  0000:02:10.2 index=1 driver=igbvf numa=1 group=32
intel.com/rest: 3
  0000:01:11.0 index=4 driver=igbvf numa=0 group=25
  0000:01:11.2 index=5 driver=igbvf numa=0 group=26
  0000:01:11.4 index=6 driver=igbvf numa=0 group=27
  0000:01:10.0 taken by intel.com/uio
  0000:01:10.2 taken by intel.com/vfio
  0000:01:10.4 taken by intel.com/rdma
  0000:01:10.6 taken by intel.com/vdpa
`
	if diff := cmp.Diff(want, printPools(pools)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const responses = `intel.com/uio 0000:01:10.0
  PCIDEVICE_INTEL_COM_UIO=0000:01:10.0
  PCIDEVICE_INTEL_COM_UIO_INFO={"0000:01:10.0":{"generic":{"deviceID":"0000:01:10.0"},"uio":{"mount":"/dev/uio3"}}}
  node /dev/uio3 at /dev/uio3 rw
intel.com/vfio 0000:01:10.2
  PCIDEVICE_INTEL_COM_VFIO=0000:01:10.2
  PCIDEVICE_INTEL_COM_VFIO_INFO={"0000:01:10.2":{"generic":{"deviceID":"0000:01:10.2"},"vfio":{"dev-mount":"/dev/vfio/22","mount":"/dev/vfio/vfio"}}}
  node /dev/vfio/vfio at /dev/vfio/vfio rw
  node /dev/vfio/noiommu-22 at /dev/vfio/22 rw
intel.com/rdma 0000:01:10.4
  PCIDEVICE_INTEL_COM_RDMA=0000:01:10.4
  PCIDEVICE_INTEL_COM_RDMA_INFO={"0000:01:10.4":{"generic":{"deviceID":"0000:01:10.4"},"rdma":{"rdma_dev":"mlx5_2","umad":"/dev/infiniband/umad2","uverbs":"/dev/infiniband/uverbs2"}}}
  node /dev/infiniband/umad2 at /dev/infiniband/umad2 rw
  node /dev/infiniband/uverbs2 at /dev/infiniband/uverbs2 rw
intel.com/vdpa 0000:01:10.6
  PCIDEVICE_INTEL_COM_VDPA=0000:01:10.6
  PCIDEVICE_INTEL_COM_VDPA_INFO={"0000:01:10.6":{"generic":{"deviceID":"0000:01:10.6"},"vdpa":{"mount":"/dev/vhost-vdpa-0"}}}
  node /dev/vhost-vdpa-0 at /dev/vhost-vdpa-0 mrw
`
	got := printResponses(pools, "intel.com/uio 0000:01:10.0\nintel.com/vfio 0000:01:10.2\nintel.com/rdma 0000:01:10.4\nintel.com/vdpa 0000:01:10.6")
	if diff := cmp.Diff(responses, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
