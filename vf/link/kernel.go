package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoVF says that the PF has no VF of that index.
var ErrNoVF = errors.New("no such VF at its PF")

// Kernel returns the port of t by rtnetlink. Writing needs CAP_NET_ADMIN in the
// user namespace that owns the PF's network namespace.
//
// The library's own reader is passed by: it takes the position in the list for
// the VF's index, reports "unknown" as on, and reads the first VLAN alone.
func Kernel(t Target) Port { return &kernelPort{target: t} }

type kernelPort struct {
	target Target
	// index is the PF's ifindex as of the last Read, 0 before.
	index int32
}

// rtextFilterSkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h. Without
// it the answer for a few hundred VFs overflows a netlink attribute's 64 KiB.
const rtextFilterSkipStats = 1 << 3

// Read asks for the PF with its VF list (RTM_GETLINK, IFLA_EXT_MASK) and picks
// the VF out of it.
func (p *kernelPort) Read() (Attributes, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(nl.RTEXT_FILTER_VF|rtextFilterSkipStats)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.target.PF)))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return Attributes{}, err
	}
	if len(msgs) == 0 || len(msgs[0]) < unix.SizeofIfInfomsg {
		return Attributes{}, fmt.Errorf("short answer from rtnetlink")
	}
	p.index = nl.DeserializeIfInfomsg(msgs[0]).Index
	return ParseLink(msgs[0][unix.SizeofIfInfomsg:], p.target.Index)
}

// Write sends one attribute of one VF (RTM_SETLINK).
func (p *kernelPort) Write(s Step) error {
	if p.index == 0 {
		if _, err := p.Read(); err != nil {
			return err
		}
	}
	kind, payload, err := encode(s, uint32(p.target.Index))
	if err != nil {
		return err
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = p.index
	list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST|unix.NLA_F_NESTED, nil)
	list.AddRtAttr(nl.IFLA_VF_INFO|unix.NLA_F_NESTED, nil).AddRtAttr(kind, payload)
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.AddData(msg)
	req.AddData(list)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// encode writes the payload of one step as linux/if_link.h has it: fields of 32
// bits in the machine's order, the VF's index first.
func encode(s Step, vf uint32) (kind int, payload []byte, err error) {
	words := func(w ...uint32) []byte {
		var b []byte
		for _, v := range append([]uint32{vf}, w...) {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
		return b
	}
	c := s.Change
	switch s.Field {
	case FieldVLAN:
		if c.VLAN.Proto == Proto8021Q || c.VLAN.Proto == "" {
			return nl.IFLA_VF_VLAN, words(uint32(c.VLAN.ID), uint32(c.VLAN.QoS)), nil
		}
		return nl.IFLA_VF_VLAN_LIST | unix.NLA_F_NESTED, vlanInfo(words(uint32(c.VLAN.ID), uint32(c.VLAN.QoS)), c.VLAN.Proto), nil
	case FieldMAC:
		mac, err := net.ParseMAC(*c.MAC)
		if err != nil || len(mac) > 32 {
			return 0, nil, fmt.Errorf("MAC %q: %w", *c.MAC, unix.EINVAL)
		}
		return nl.IFLA_VF_MAC, append(words(), slices.Concat(mac, make([]byte, 32-len(mac)))...), nil
	case FieldRates:
		return nl.IFLA_VF_RATE, words(uint32(c.Rates.Min), uint32(c.Rates.Max)), nil
	case FieldSpoofChk:
		return nl.IFLA_VF_SPOOFCHK, words(bit(*c.SpoofChk)), nil
	case FieldTrust:
		return nl.IFLA_VF_TRUST, words(bit(*c.Trust)), nil
	case FieldLinkState:
		i := slices.Index(states, *c.LinkState)
		if i < 0 {
			return 0, nil, fmt.Errorf("link state %q: %w", *c.LinkState, unix.EINVAL)
		}
		return nl.IFLA_VF_LINK_STATE, words(uint32(i)), nil
	}
	return 0, nil, fmt.Errorf("field %q: %w", s.Field, unix.EINVAL)
}

// vlanInfo wraps struct ifla_vf_vlan_info, whose protocol is in network order
// and padded to a multiple of 4.
func vlanInfo(head []byte, proto string) []byte {
	b := binary.BigEndian.AppendUint16(head, protos[proto])
	return nl.NewRtAttr(nl.IFLA_VF_VLAN_INFO, append(b, 0, 0)).Serialize()
}

var (
	// states by their IFLA_VF_LINK_STATE number.
	states = []string{StateAuto, StateEnable, StateDisable}
	// protos by EtherType.
	protos = map[string]uint16{Proto8021Q: unix.ETH_P_8021Q, Proto8021AD: unix.ETH_P_8021AD}
)

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
