package link

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Counters are what a PF counts for one VF since the VF was made, seen from the
// VF: what it received and sent (IFLA_VF_STATS, linux/if_link.h).
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes uint64
	RxBroadcast, RxMulticast               uint64
	RxDropped, TxDropped                   uint64
}

// field returns the counter that an attribute of IFLA_VF_STATS is about, nil for
// one that is unknown. IFLA_VF_STATS_PAD (6) lies between.
func (c *Counters) field(kind uint16) *uint64 {
	switch kind {
	case nl.IFLA_VF_STATS_RX_PACKETS:
		return &c.RxPackets
	case nl.IFLA_VF_STATS_TX_PACKETS:
		return &c.TxPackets
	case nl.IFLA_VF_STATS_RX_BYTES:
		return &c.RxBytes
	case nl.IFLA_VF_STATS_TX_BYTES:
		return &c.TxBytes
	case nl.IFLA_VF_STATS_BROADCAST:
		return &c.RxBroadcast
	case nl.IFLA_VF_STATS_MULTICAST:
		return &c.RxMulticast
	case vfStatsRxDropped:
		return &c.RxDropped
	case vfStatsTxDropped:
		return &c.TxDropped
	}
	return nil
}

// IFLA_VF_STATS_RX_DROPPED and IFLA_VF_STATS_TX_DROPPED.
const (
	vfStatsRxDropped = 7
	vfStatsTxDropped = 8
)

// ReadCounters returns the counters of the VFs of one PF, by VF index. A driver
// that counts nothing for its VFs (igb) says 0 everywhere, which looks like a VF
// without traffic. VFs that do not fit the kernel's answer, beyond some two
// hundred, are not in it.
func ReadCounters(pf string) (map[int]Counters, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(nl.RTEXT_FILTER_VF)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(pf)))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return nil, fmt.Errorf("read counters of the VFs of %s: %w", pf, err)
	}
	if len(msgs) == 0 || len(msgs[0]) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("read counters of the VFs of %s: short answer from rtnetlink", pf)
	}
	return ParseCounters(msgs[0][unix.SizeofIfInfomsg:])
}

// ParseCounters reads the attributes of an RTM_NEWLINK answer (what follows its
// struct ifinfomsg). Attributes that are too short, or unknown, are passed over.
func ParseCounters(b []byte) (map[int]Counters, error) {
	top, err := split(b)
	if err != nil {
		return nil, err
	}
	out := map[int]Counters{}
	for _, info := range nested(top, unix.IFLA_VFINFO_LIST) {
		attrs, err := split(info.value)
		if err != nil {
			return nil, err
		}
		vf, ok := owner(attrs)
		if !ok {
			continue
		}
		var c Counters
		for _, s := range nested(attrs, nl.IFLA_VF_STATS) {
			if to := c.field(s.kind); to != nil && len(s.value) >= 8 {
				*to = binary.NativeEndian.Uint64(s.value)
			}
		}
		out[int(vf)] = c
	}
	return out, nil
}
