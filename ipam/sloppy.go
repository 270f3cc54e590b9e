package ipam

import (
	"net/netip"
	"strings"
)

// parseSloppy reads an address as whereabouts does: IPv4 octets may have leading
// zeros, which are decimal. IPv4 in IPv6 form becomes IPv4.
func parseSloppy(s string) (netip.Addr, bool) {
	if a, ok := parseAddr(s); ok {
		return a, true
	}
	octets := strings.Split(s, ".")
	if len(octets) != 4 {
		return netip.Addr{}, false
	}
	for i, o := range octets {
		for len(o) > 1 && o[0] == '0' {
			o = o[1:]
		}
		octets[i] = o
	}
	return parseAddr(strings.Join(octets, "."))
}

// parsePrefix reads a CIDR with parseSloppy's addresses.
func parsePrefix(s string) (netip.Prefix, bool) {
	text, length, ok := strings.Cut(s, "/")
	if !ok {
		return netip.Prefix{}, false
	}
	a, ok := parseSloppy(text)
	if !ok || strings.Contains(text, ":") && a.Is4() {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(a.String() + "/" + length)
	return p, err == nil
}
