package vf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Addr is a PCI address (domain:bus:device.function). The zero value is not
// valid; Addr is comparable and orders as the kernel lists devices.
type Addr struct {
	domain uint32
	// bdf is bus, device and function as PCI packs them, plus one, so that the
	// zero Addr differs from 0000:00:00.0.
	bdf uint32
}

const addrForm = "a PCI address dddd:bb:dd.f, hexadecimal, device 00..1f, function 0..7"

// ParseAddr reads the sysfs form of a PCI address, such as "0000:01:10.2".
func ParseAddr(s string) (Addr, error) {
	bad := refusal.New("", "", s, addrForm)
	head, fn, ok := strings.Cut(s, ".")
	parts := strings.Split(head, ":")
	if !ok || len(parts) != 3 || len(parts[0]) < 4 || len(parts[1]) != 2 || len(parts[2]) != 2 || len(fn) != 1 {
		return Addr{}, bad
	}
	domain, err1 := strconv.ParseUint(parts[0], 16, 32)
	bus, err2 := strconv.ParseUint(parts[1], 16, 8)
	dev, err3 := strconv.ParseUint(parts[2], 16, 8)
	f, err4 := strconv.ParseUint(fn, 8, 8)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || dev > 0x1f || f > 7 {
		return Addr{}, bad
	}
	return Addr{domain: uint32(domain), bdf: uint32(bus<<8|dev<<3|f) + 1}, nil
}

// MustAddr is ParseAddr for constants in tests; it panics on a bad one.
func MustAddr(s string) Addr {
	a, err := ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// IsValid reports whether a is not the zero Addr.
func (a Addr) IsValid() bool { return a.bdf != 0 }

// Compare orders addresses by domain, bus, device, function.
func (a Addr) Compare(b Addr) int {
	if a.domain != b.domain {
		return int(int64(a.domain) - int64(b.domain))
	}
	return int(int64(a.bdf) - int64(b.bdf))
}

// String returns the sysfs form, or "" for the zero Addr.
func (a Addr) String() string {
	if !a.IsValid() {
		return ""
	}
	v := a.bdf - 1
	return fmt.Sprintf("%04x:%02x:%02x.%x", a.domain, v>>8, v>>3&0x1f, v&7)
}

// MarshalText implements encoding.TextMarshaler.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero Addr.
func (a *Addr) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*a = Addr{}
		return nil
	}
	*a, err = ParseAddr(string(b))
	return err
}
