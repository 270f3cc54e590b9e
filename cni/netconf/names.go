package netconf

import (
	"net"
	"net/netip"
	"strings"
)

// What the names are made of, and how a refusal says so.
const (
	nameForm   = "letters, digits, '_', '.' and '-', the first a letter or digit (CNI SPEC, network name)"
	labelForm  = "a DNS label: lower-case letters, digits and '-', at most 63 bytes (RFC 1123)"
	objectForm = "a DNS name: lower-case letters, digits, '-' and '.', at most 253 bytes (RFC 1123)"
	ifNameForm = "1..15 bytes without '/', ':', '%' or white space, not . or .."
	masterForm = "a link name or alternative name: 1..127 bytes without '/', ':' or white space"
	macForm    = "a unicast Ethernet address such as 02:00:00:00:00:01"
)

// validName is the rule of the CNI SPEC for network names, which also makes a
// name safe as one element of a path.
func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func validLabel(s string) bool { return len(s) <= 63 && dnsLabel(s) }

func validObject(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !dnsLabel(part) {
			return false
		}
	}
	return len(s) <= 253
}

// dnsLabel is the form of a DNS label, of any length. It is no regular
// expression, like the others here: to compile them takes an executable a tenth of
// a millisecond each time that it is called.
func dnsLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' || !alphanumeric(c) && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}

// ValidIfName reports whether the kernel would give a link exactly this name
// (dev_valid_name in net/core/dev.c). '%' is left out although the kernel takes
// it: there it is a template, and the link would get another name.
func ValidIfName(s string) bool {
	return len(s) <= 15 && s != "." && s != ".." && validLinkBytes(s) && !strings.Contains(s, "%")
}

// validLinkBytes looks at bytes and not at runes, as the kernel does: to its
// isspace the byte 0xa0 is white space, whatever character it is part of.
func validLinkBytes(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0, c == '/', c == ':', c == ' ', '\t' <= c && c <= '\r', c == 0xa0:
			return false
		}
	}
	return s != ""
}

// ParseMAC reads a unicast Ethernet address in any form net.ParseMAC knows and
// returns its lower-case colon form. ok is false for other lengths, for group
// addresses and for all zeros: the kernel answers EADDRNOTAVAIL to both.
func ParseMAC(s string) (mac string, ok bool) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || [6]byte(hw) == [6]byte{} {
		return "", false
	}
	return hw.String(), true
}

// parseAddr reads an address without zone; IPv4 in IPv6 form becomes IPv4.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}
