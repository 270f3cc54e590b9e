package ipam

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// slot is an address as a number of 128 bits. IPv4 lies at ::ffff:0:0/96, so
// that both families share one space without touching.
type slot struct{ hi, lo uint64 }

func slotOf(a netip.Addr) slot {
	b := a.As16()
	return slot{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr is the address of s; mapped IPv4 comes back as IPv4.
func (s slot) addr() netip.Addr {
	return netip.AddrFrom16(s.bytes()).Unmap()
}

func (s slot) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], s.hi)
	binary.BigEndian.PutUint64(b[8:], s.lo)
	return b
}

func (s slot) compare(t slot) int {
	if s.hi != t.hi {
		return cmp.Compare(s.hi, t.hi)
	}
	return cmp.Compare(s.lo, t.lo)
}

func (s slot) less(t slot) bool { return s.compare(t) < 0 }

// next is s+1; ok is false after the last slot.
func (s slot) next() (t slot, ok bool) {
	lo, carry := bits.Add64(s.lo, 1, 0)
	hi, over := bits.Add64(s.hi, 0, carry)
	return slot{hi, lo}, over == 0
}

// previous is s-1; s is not 0.
func (s slot) previous() slot {
	lo, borrow := bits.Sub64(s.lo, 1, 0)
	return slot{s.hi - borrow, lo}
}

// shiftRight is s / 2^n, n < 64.
func (s slot) shiftRight(n uint) slot {
	return slot{s.hi >> n, s.lo>>n | s.hi<<(64-n)}
}

// shiftLeft is s * 2^n, n < 64, without what falls off.
func (s slot) shiftLeft(n uint) slot {
	return slot{s.hi<<n | s.lo>>(64-n), s.lo << n}
}

// count is the number of slots in s..last, at most the largest uint64.
func (s slot) count(last slot) uint64 {
	lo, borrow := bits.Sub64(last.lo, s.lo, 0)
	hi, _ := bits.Sub64(last.hi, s.hi, borrow)
	if hi > 0 || lo == math.MaxUint64 {
		return math.MaxUint64
	}
	return lo + 1
}
