package probe

import (
	"encoding/binary"
	"net/netip"
)

// MAC is an Ethernet address.
type MAC [6]byte

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// Frame returns the Ethernet frame that asks who has a, sent from mac. The sender
// of the question has no address yet: 0.0.0.0, or ::.
func Frame(mac MAC, a netip.Addr) []byte {
	if a.Is4() {
		return arpProbe(mac, a.As4())
	}
	return solicitation(mac, a.As16())
}

// arpProbe is RFC 826 with a sender address of zero (RFC 5227, section 1.1).
func arpProbe(mac MAC, target [4]byte) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	f = append(f, mac[:]...)
	f = append(f, 0, 0, 0, 0)       // sender: nobody
	f = append(f, 0, 0, 0, 0, 0, 0) // target's MAC: the question
	return append(f, target[:]...)
}

// solicitation is RFC 4861, section 4.3, from :: and so without a link-layer
// address option.
func solicitation(mac MAC, target [16]byte) []byte {
	// The solicited-node group, RFC 4291 section 2.7.1, and its Ethernet form.
	group := [16]byte{0xff, 0x02, 11: 0x01, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	f := []byte{0x33, 0x33, 0xff, target[13], target[14], target[15]}
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherIPv6)
	f = append(f, 0x60, 0, 0, 0, 0, 24, 58, 255) // version 6, 24 bytes of ICMPv6, hop limit 255
	f = append(f, make([]byte, 16)...)           // source ::
	f = append(f, group[:]...)
	body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	binary.BigEndian.PutUint16(body[2:], checksum(group, body))
	return append(f, body...)
}

// checksum is ICMPv6's (RFC 8200, section 8.1) for a packet from ::.
func checksum(to [16]byte, body []byte) uint16 {
	sum := uint32(len(body)) + 58
	for _, b := range [][]byte{to[:], body} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Parse returns the address that a frame says its sender has, or probes for, and
// the sender's MAC; ok is false for any other frame. Requests and replies count
// alike (RFC 5227, section 2.1.1), as do solicitations from :: (RFC 4862, section
// 5.4.3).
func Parse(f []byte) (a netip.Addr, from MAC, ok bool) {
	if len(f) < 14 {
		return a, from, false
	}
	switch body := f[14:]; binary.BigEndian.Uint16(f[12:]) {
	case etherARP:
		return parseARP(body)
	case etherIPv6:
		copy(from[:], f[6:])
		a, ok = parseNDP(body)
		return a, from, ok
	}
	return a, from, false
}

func parseARP(b []byte) (a netip.Addr, from MAC, ok bool) {
	if len(b) < 28 || binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return a, from, false
	}
	copy(from[:], b[8:])
	sender := netip.AddrFrom4([4]byte(b[14:18]))
	if !sender.IsUnspecified() {
		return sender, from, true
	}
	request := binary.BigEndian.Uint16(b[6:]) == 1
	return netip.AddrFrom4([4]byte(b[24:28])), from, request
}

// parseNDP reads neighbour advertisements, and solicitations from ::.
func parseNDP(b []byte) (netip.Addr, bool) {
	if len(b) < 64 || b[0]>>4 != 6 || b[6] != 58 || b[7] != 255 {
		return netip.Addr{}, false
	}
	source := netip.AddrFrom16([16]byte(b[8:24]))
	target := netip.AddrFrom16([16]byte(b[48:64]))
	switch b[40] {
	case 136:
		return target, true
	case 135:
		return target, source.IsUnspecified()
	}
	return netip.Addr{}, false
}
