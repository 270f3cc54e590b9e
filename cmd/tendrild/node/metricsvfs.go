package node

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/deviceplugin/podresources"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
)

var (
	vfsDesc        = prometheus.NewDesc("tendril_vfs", "VFs by pool (empty for none) and state: free, used, quarantine, unfit, host.", []string{"resource", "state"}, nil)
	pfInfoDesc     = prometheus.NewDesc("tendril_pf_info", "1 for each physical function with SR-IOV.", []string{"pf", "pciAddr", "driver", "numa_node"}, nil)
	pfLinkDesc     = prometheus.NewDesc("tendril_pf_link_up", "1 while the physical function has carrier.", []string{"pf"}, nil)
	pfVFsDesc      = prometheus.NewDesc("tendril_pf_vfs", "VFs of a physical function: made, and possible.", []string{"pf", "state"}, nil)
	quarantineDesc = prometheus.NewDesc("tendril_quarantine_seconds", "For how long a VF has been in quarantine.", []string{"pciAddr"}, nil)
	// podDeviceDesc has name and labels of the SR-IOV network metrics exporter, whose
	// dashboards join on it.
	podDeviceDesc = prometheus.NewDesc("sriov_kubepoddevice", "1 for each PCI device that a container has, by the kubelet's word.", []string{"pciAddr", "dev_type", "pod", "namespace", "container"}, nil)
)

// vfCounter is one counter of a VF under the name that the SR-IOV network metrics
// exporter gives it.
type vfCounter struct {
	desc *prometheus.Desc
	// pf and own are the PF's and the VF's own count; nil where it has none.
	pf  func(link.Counters) uint64
	own func(netns.Counters) uint64
}

var vfCounters = []vfCounter{
	{vfDesc("rx_bytes", "Bytes received."), func(c link.Counters) uint64 { return c.RxBytes }, func(c netns.Counters) uint64 { return c.RxBytes }},
	{vfDesc("tx_bytes", "Bytes sent."), func(c link.Counters) uint64 { return c.TxBytes }, func(c netns.Counters) uint64 { return c.TxBytes }},
	{vfDesc("rx_packets", "Packets received."), func(c link.Counters) uint64 { return c.RxPackets }, func(c netns.Counters) uint64 { return c.RxPackets }},
	{vfDesc("tx_packets", "Packets sent."), func(c link.Counters) uint64 { return c.TxPackets }, func(c netns.Counters) uint64 { return c.TxPackets }},
	{vfDesc("rx_dropped", "Packets dropped on receipt."), func(c link.Counters) uint64 { return c.RxDropped }, func(c netns.Counters) uint64 { return c.RxDropped }},
	{vfDesc("tx_dropped", "Packets dropped on sending."), func(c link.Counters) uint64 { return c.TxDropped }, func(c netns.Counters) uint64 { return c.TxDropped }},
	{vfDesc("rx_multicast", "Multicast packets received."), func(c link.Counters) uint64 { return c.RxMulticast }, func(c netns.Counters) uint64 { return c.Multicast }},
	{vfDesc("rx_broadcast", "Broadcast packets received."), func(c link.Counters) uint64 { return c.RxBroadcast }, nil},
	{vfDesc("tx_errors", "Packets that could not be sent."), nil, func(c netns.Counters) uint64 { return c.TxErrors }},
}

func vfDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("sriov_vf_"+name, help+" Counted by the PF, or by the VF's own network device where the PF's driver does not count.",
		[]string{"pf", "vf", "pciAddr", "numa_node", "namespace", "pod", "interface", "network"}, nil)
}

func vfDescs() []*prometheus.Desc {
	descs := []*prometheus.Desc{vfsDesc, pfInfoDesc, pfLinkDesc, pfVFsDesc, quarantineDesc}
	for _, c := range vfCounters {
		descs = append(descs, c.desc)
	}
	return descs
}

// readVFs counts the node's VFs and tells what they count. A series of a VF names a
// pod only while one has it, so there are as many series as VFs.
func (d *daemon) readVFs(ctx context.Context, to sink) error {
	v, err := d.viewVFs(ctx)
	if err != nil {
		return err
	}
	d.countVFs(v, to)
	for _, e := range d.vfs.ward.Entries() {
		to.gauge(quarantineDesc, time.Since(e.Since).Seconds(), e.VF.String())
	}
	var errs []error
	for _, p := range v.Snapshot.PFs {
		if p.TotalVFs == 0 {
			continue
		}
		to.gauge(pfInfoDesc, 1, p.Label(), p.Addr.String(), p.Driver, strconv.Itoa(p.NUMANode))
		to.gauge(pfLinkDesc, float64(btoi(p.LinkUp)), p.Label())
		to.gauge(pfVFsDesc, float64(p.NumVFs), p.Label(), "made")
		to.gauge(pfVFsDesc, float64(p.TotalVFs), p.Label(), "possible")
		errs = append(errs, v.readCounters(p, to))
	}
	if len(v.missing) > 0 {
		errs = append(errs, errors.New(v.missing[0]))
	}
	return errors.Join(errs...)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (d *daemon) countVFs(v *vfView, to sink) {
	type group struct{ resource, state string }
	n := map[group]int{}
	for _, p := range d.offer.plugin.Pools() {
		for _, state := range []string{inspect.Free, inspect.Used, inspect.Quarantined, inspect.Unfit, inspect.HostOwned} {
			n[group{p.Name(), state}] = 0 // that a pool has none left is what one looks for
		}
	}
	for _, f := range v.Snapshot.VFs {
		state, _ := v.state(f)
		n[group{v.pools[f.Addr.String()], state}]++
	}
	for g, n := range n {
		to.gauge(vfsDesc, float64(n), g.resource, g.state)
	}
}

// readCounters tells the counters of p's VFs. A PF of which no VF has counted
// anything is one whose driver does not count: the VFs' own devices are asked.
func (v *vfView) readCounters(p vf.PF, to sink) error {
	var counted map[int]link.Counters
	var err error
	if p.Netdev != "" && p.NumVFs > 0 {
		counted, err = link.ReadCounters(p.Netdev)
	}
	silent := true
	for _, c := range counted {
		silent = silent && c == link.Counters{}
	}
	var errs []error
	for _, f := range v.Snapshot.Of(p.Addr) {
		labels := v.labels(p, f)
		if c, ok := counted[f.Index]; ok && !silent {
			for _, one := range vfCounters {
				if one.pf != nil {
					to.counter(one.desc, float64(one.pf(c)), labels...)
				}
			}
			continue
		}
		c, ok, err := v.own(f)
		errs = append(errs, err)
		for _, one := range vfCounters {
			if ok && one.own != nil {
				to.counter(one.desc, float64(one.own(c)), labels...)
			}
		}
	}
	return errors.Join(append(errs, err)...)
}

// labels are those of the counters of f, a VF of p.
func (v *vfView) labels(p vf.PF, f vf.VF) []string {
	r := v.records[f.Addr.String()]
	a := r.Attachment
	return []string{p.Label(), strconv.Itoa(f.Index), f.Addr.String(), strconv.Itoa(f.NUMANode), a.Pod.Namespace, a.Pod.Name, a.IfName, a.Network}
}

// own reads the counters of a VF's own network device, on the host or in its pod;
// ok is false when it has none, or it is just on its way.
func (v *vfView) own(f vf.VF) (c netns.Counters, ok bool, err error) {
	r := v.records[f.Addr.String()]
	switch {
	case f.Netdev != "":
		c, err = hostCounters(f.Netdev)
	case r.Phase == cni.Attached && r.Link.Index != 0:
		c, err = podCounters(r.Attachment.Netns, r.Link.Index)
	default:
		return c, false, nil
	}
	if errors.Is(err, netns.ErrGone) || errors.Is(err, netns.ErrNotFound) {
		return c, false, nil
	}
	return c, err == nil, err
}

func hostCounters(name string) (netns.Counters, error) {
	conn, err := netns.Dial(nil)
	if err != nil {
		return netns.Counters{}, err
	}
	defer conn.Close()
	l, err := conn.LinkByName(name)
	if err != nil {
		return netns.Counters{}, err
	}
	return conn.Counters(l.Index)
}

func podCounters(pod cni.Netns, index int) (netns.Counters, error) {
	ns, err := netns.Reopen(pod)
	if err != nil {
		return netns.Counters{}, err
	}
	defer ns.Close()
	conn, err := netns.Dial(ns)
	if err != nil {
		return netns.Counters{}, err
	}
	defer conn.Close()
	return conn.Counters(index)
}

// readKubelet tells which container has which device.
func (d *daemon) readKubelet(ctx context.Context, to sink) error {
	held, err := d.kubelet.All(ctx)
	told := map[podresources.Held]bool{}
	for _, h := range held {
		if _, err := vf.ParseAddr(h.ID); err == nil && !told[h] {
			told[h] = true
			to.gauge(podDeviceDesc, 1, h.ID, h.Resource, h.Pod, h.Namespace, h.Container)
		}
	}
	return err
}
