package link

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// typeMask takes the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER off an
// attribute's type.
const typeMask = 0x3fff

// ParseLink reads the attributes of an RTM_NEWLINK answer (what follows its
// struct ifinfomsg) and returns those of the VF with that index. A list without
// it, or no list at all, is ErrNoVF. Attributes that are too short, or unknown,
// are passed over: their fields keep the kernel's defaults.
func ParseLink(b []byte, index int) (Attributes, error) {
	top, err := split(b)
	if err != nil {
		return Attributes{}, err
	}
	for _, info := range nested(top, unix.IFLA_VFINFO_LIST) {
		attrs, err := split(info.value)
		if err != nil {
			return Attributes{}, err
		}
		if vf, ok := owner(attrs); ok && vf == uint32(index) {
			return decode(attrs), nil
		}
	}
	return Attributes{}, ErrNoVF
}

type attr struct {
	kind  uint16
	value []byte
}

// split reads a run of netlink attributes (struct nlattr, 4-byte aligned).
func split(b []byte) ([]attr, error) {
	var out []attr
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil, fmt.Errorf("netlink attribute of %d bytes in %d", n, len(b))
		}
		out = append(out, attr{binary.NativeEndian.Uint16(b[2:]) & typeMask, b[unix.SizeofRtAttr:n]})
		b = b[min((n+3)&^3, len(b)):]
	}
	return out, nil
}

// nested returns the members of the first attribute of that kind. The kernel
// cuts the length of a list that outgrew 64 KiB; what is readable is returned.
func nested(attrs []attr, kind uint16) []attr {
	for _, a := range attrs {
		if a.kind == kind {
			members, _ := split(a.value)
			return members
		}
	}
	return nil
}

// owner is the VF's index, with which each of its attributes begins. The MAC is
// there for every driver.
func owner(attrs []attr) (uint32, bool) {
	for _, a := range attrs {
		if a.kind == nl.IFLA_VF_MAC && len(a.value) >= 4 {
			return binary.NativeEndian.Uint32(a.value), true
		}
	}
	return 0, false
}

// unknown is what the kernel fills in before it asks the driver
// (rtnl_fill_vfinfo: spoofchk and trusted are set to -1).
const unknown = 0xffffffff

func decode(attrs []attr) Attributes {
	out := Attributes{MAC: ZeroMAC, VLAN: VLAN{Proto: Proto8021Q}, LinkState: StateAuto}
	for _, a := range attrs {
		switch w := words(a.value); {
		case a.kind == nl.IFLA_VF_MAC && len(a.value) >= 10:
			out.MAC = net.HardwareAddr(a.value[4:10]).String()
		case a.kind == nl.IFLA_VF_VLAN && len(w) >= 3:
			out.VLAN.ID, out.VLAN.QoS = int(w[1]), int(w[2])
		case a.kind == nl.IFLA_VF_VLAN_LIST:
			out.VLAN.Proto = proto(a.value, out.VLAN.Proto)
		case a.kind == nl.IFLA_VF_RATE && len(w) >= 3:
			out.Rates = Rates{Min: int(w[1]), Max: int(w[2])}
		case a.kind == nl.IFLA_VF_SPOOFCHK && len(w) >= 2:
			out.SpoofChk = reported(w[1])
		case a.kind == nl.IFLA_VF_TRUST && len(w) >= 2:
			out.Trust = reported(w[1])
		case a.kind == nl.IFLA_VF_LINK_STATE && len(w) >= 2 && w[1] < uint32(len(states)):
			out.LinkState = states[w[1]]
		}
	}
	return out
}

func words(b []byte) []uint32 {
	var w []uint32
	for ; len(b) >= 4; b = b[4:] {
		w = append(w, binary.NativeEndian.Uint32(b))
	}
	return w
}

func reported(v uint32) *bool {
	if v == unknown {
		return nil
	}
	on := v != 0
	return &on
}

// proto is the protocol of the outermost tag in IFLA_VF_VLAN_LIST.
func proto(list []byte, fallback string) string {
	members, _ := split(list)
	for _, m := range members {
		if m.kind != nl.IFLA_VF_VLAN_INFO || len(m.value) < 14 {
			continue
		}
		for name, number := range protos {
			if binary.BigEndian.Uint16(m.value[12:]) == number {
				return name
			}
		}
	}
	return fallback
}
