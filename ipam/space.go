package ipam

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
)

// levels is the height of the tree of nodes: level 1 is a cell of 64 slots,
// level 4 covers 64^4, about 16.8 million.
const levels = 4

// space is the address space of one network in a Store. Its first error sticks,
// and from then on it writes nothing.
type space struct {
	store   Store
	network string
	err     error
}

func (s *space) key(kind byte, parts ...[]byte) []byte {
	k := append(make([]byte, 0, len(s.network)+32), s.network...)
	k = append(k, 0, kind)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func (s *space) slotKey(a netip.Addr) []byte { return s.key('s', []byte(a.String())) }

func (s *space) ownerKey(o Owner) []byte {
	return s.key('o', []byte(o.Container), []byte{0}, []byte(o.IfName))
}

func (s *space) lastKey(set int) []byte { return s.key('l', strconv.AppendInt(nil, int64(set), 10)) }

func (s *space) nodeKey(level uint, id slot) []byte {
	b := id.bytes()
	return s.key('n', []byte{'0' + byte(level)}, b[:])
}

func (s *space) fail(op string, err error) {
	if s.err == nil && err != nil {
		s.err = fmt.Errorf("%s network %s: %w", op, s.network, err)
	}
}

func (s *space) put(key, value []byte) {
	if s.err == nil {
		s.fail("write", s.store.Put(key, value))
	}
}

func (s *space) drop(key []byte) {
	if s.err == nil {
		s.fail("write", s.store.Delete(key))
	}
}

func (s *space) node(level uint, id slot) uint64 {
	v := s.store.Get(s.nodeKey(level, id))
	switch len(v) {
	case 0:
		return 0
	case 8:
		return binary.BigEndian.Uint64(v)
	}
	s.fail("read", fmt.Errorf("node of level %d has %d bytes, want 8", level, len(v)))
	return 0
}

func (s *space) setNode(level uint, id slot, word uint64) {
	if word == 0 {
		s.drop(s.nodeKey(level, id))
		return
	}
	s.put(s.nodeKey(level, id), binary.BigEndian.AppendUint64(nil, word))
}

// free returns the lowest free slot of lo..hi.
func (s *space) free(lo, hi slot) (slot, bool) {
	if hi.less(lo) {
		return slot{}, false
	}
	last := hi.shiftRight(6 * levels)
	for id := lo.shiftRight(6 * levels); s.err == nil; {
		if found, ok := s.freeBelow(levels, id, lo, hi); ok {
			return found, true
		}
		var more bool
		if id, more = id.next(); !more || last.less(id) {
			break
		}
	}
	return slot{}, false
}

// freeBelow is free within one node.
func (s *space) freeBelow(level uint, id, lo, hi slot) (slot, bool) {
	shift := 6 * (level - 1)
	candidates := ^s.node(level, id)
	// Children left of lo or right of hi do not count; lo and hi may lie outside
	// of this node.
	if first := lo.shiftRight(shift); first.shiftRight(6) == id {
		candidates &= math.MaxUint64 << (first.lo & 63)
	}
	if final := hi.shiftRight(shift); final.shiftRight(6) == id {
		candidates &= math.MaxUint64 >> (63 - final.lo&63)
	}
	for ; candidates != 0 && s.err == nil; candidates &= candidates - 1 {
		child := id.shiftLeft(6)
		child.lo |= uint64(bits.TrailingZeros64(candidates))
		if level == 1 {
			return child, true
		}
		if found, ok := s.freeBelow(level-1, child, lo, hi); ok {
			return found, true
		}
	}
	return slot{}, false
}

// take sets the bit of t, and in the levels above that of every node that is
// full now.
func (s *space) take(t slot) {
	for level := uint(1); level <= levels && s.err == nil; level++ {
		id := t.shiftRight(6)
		word := s.node(level, id) | 1<<(t.lo&63)
		s.setNode(level, id, word)
		if word != math.MaxUint64 {
			return
		}
		t = id
	}
}

// give clears the bit of t, and in the levels above that of every node that was
// full until now.
func (s *space) give(t slot) {
	for level := uint(1); level <= levels && s.err == nil; level++ {
		id := t.shiftRight(6)
		was := s.node(level, id)
		s.setNode(level, id, was&^(1<<(t.lo&63)))
		if was != math.MaxUint64 {
			return
		}
		t = id
	}
}

// holder returns the owner of a.
func (s *space) holder(a netip.Addr) (Owner, bool) {
	v := s.store.Get(s.slotKey(a))
	if v == nil {
		return Owner{}, false
	}
	var o Owner
	if err := json.Unmarshal(v, &o); err != nil {
		s.fail("read", fmt.Errorf("owner of %s: %w", a, err))
	}
	return o, true
}

// held returns the addresses of o in the order in which they were reserved.
func (s *space) held(o Owner) []netip.Addr {
	v := s.store.Get(s.ownerKey(o))
	if v == nil {
		return nil
	}
	var list []netip.Addr
	if err := json.Unmarshal(v, &list); err != nil {
		s.fail("read", fmt.Errorf("addresses of %s: %w", o, err))
	}
	return list
}

// last returns the address that the set handed out last, zero for none. A text
// that does not parse only costs the place in the round.
func (s *space) last(set int) netip.Addr {
	a, err := netip.ParseAddr(string(s.store.Get(s.lastKey(set))))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// own writes o as the owner of a.
func (s *space) own(a netip.Addr, o Owner) {
	// An Owner is four strings: it always encodes.
	text, _ := json.Marshal(o)
	s.put(s.slotKey(a), text)
	s.take(slotOf(a))
}

// index writes the addresses of o.
func (s *space) index(o Owner, list []netip.Addr) {
	text, err := json.Marshal(list)
	s.fail("encode", err)
	s.put(s.ownerKey(o), text)
}

// Held reports whether key, of a Store, is the record of an address that is
// held: counting them counts addresses, whatever holds them.
func Held(key []byte) bool {
	_, rest, ok := bytes.Cut(key, []byte{0})
	return ok && len(rest) > 0 && rest[0] == 's'
}
