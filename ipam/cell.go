package ipam

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// CellSize is the number of slots of a cell: IPv4 /26, IPv6 /122.
const CellSize = 64

// Cell is 64 addresses that belong together, aligned: what one AddressBlock
// describes. It is comparable; the zero Cell is invalid.
type Cell struct{ id slot }

// CellOf returns the cell that a lies in.
func CellOf(a netip.Addr) Cell { return Cell{slotOf(a).shiftRight(6)} }

// ParseCell reads the form that Prefix prints. Errors are refusal.Refusal.
func ParseCell(s string) (Cell, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Bits() != p.Addr().BitLen()-6 || p != p.Masked() || p.Addr().Is4In6() {
		return Cell{}, refusal.New("", "cell", s, "an IPv4 /26 or an IPv6 /122 without host bits")
	}
	return CellOf(p.Addr()), nil
}

// first is slot 0.
func (c Cell) first() slot { return c.id.shiftLeft(6) }

// Addr returns the address of slot i, 0..63.
func (c Cell) Addr(i int) netip.Addr {
	s := c.first()
	s.lo |= uint64(i)
	return s.addr()
}

// Index returns the slot of a, which must lie in c.
func (c Cell) Index(a netip.Addr) int { return int(slotOf(a).lo & 63) }

// Prefix returns c as a /26 or /122.
func (c Cell) Prefix() netip.Prefix {
	a := c.Addr(0)
	return netip.PrefixFrom(a, a.BitLen()-6)
}

// String returns the prefix.
func (c Cell) String() string { return c.Prefix().String() }

// Name is c as part of an object's name: 10-0-0-64, or the eight groups of an
// IPv6 address in four digits each.
func (c Cell) Name() string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(c.Addr(0).StringExpanded())
}

// Mask is a set of slots of one cell, slot 0 the lowest bit.
type Mask uint64

// Has says whether slot i is in m.
func (m Mask) Has(i int) bool { return m&(1<<i) != 0 }

// Count is the number of slots in m.
func (m Mask) Count() int { return bits.OnesCount64(uint64(m)) }

// Slots returns the slots of m in ascending order.
func (m Mask) Slots() []int {
	out := make([]int, 0, m.Count())
	for ; m != 0; m &= m - 1 {
		out = append(out, m.lowest())
	}
	return out
}

// Lowest returns the n lowest slots of m.
func (m Mask) Lowest(n int) Mask {
	var out Mask
	for ; m != 0 && n > 0; n-- {
		out |= m & -m
		m &= m - 1
	}
	return out
}

func (m Mask) lowest() int { return bits.TrailingZeros64(uint64(m)) }

// span is the slots of c in first..last.
func (c Cell) span(first, last slot) Mask {
	lo, hi := c.first(), c.first()
	hi.lo |= CellSize - 1
	if last.less(lo) || hi.less(first) {
		return 0
	}
	m := Mask(math.MaxUint64)
	if lo.less(first) {
		m &= math.MaxUint64 << (first.lo & 63)
	}
	if last.less(hi) {
		m &= math.MaxUint64 >> (63 - last.lo&63)
	}
	return m
}

// Mask returns the slots of c that the set may hand out.
func (s RangeSet) Mask(c Cell) Mask {
	var m Mask
	for _, r := range s {
		m |= r.mask(c)
	}
	return m
}

func (r Range) mask(c Cell) Mask {
	m := c.span(slotOf(r.Start), slotOf(r.End))
	if m == 0 {
		return 0
	}
	if r.Gateway.IsValid() && CellOf(r.Gateway) == c {
		m &^= 1 << c.Index(r.Gateway)
	}
	for _, x := range r.Exclude {
		m &^= c.span(slotOf(x.Addr()), slotOf(broadcastOf(x)))
	}
	return m
}

// Cells returns the number of cells that have addresses of the set which are not
// excluded, at most the largest uint64.
func (s RangeSet) Cells() uint64 {
	var sum uint64
	for _, r := range s.cells() {
		sum = saturated(sum, r.first.count(r.last))
	}
	return sum
}

// Cell returns the n-th of those cells, counted through the set's ranges in order. n is
// below Cells.
func (s RangeSet) Cell(n uint64) Cell {
	for _, r := range s.cells() {
		count := r.first.count(r.last)
		if n < count {
			lo, carry := bits.Add64(r.first.lo, n, 0)
			return Cell{slot{r.first.hi + carry, lo}}
		}
		n -= count
	}
	panic(fmt.Sprintf("cell %d of a set that has fewer", n))
}

// cells are the runs of the numbers of the cells of a set, each once a range.
func (s RangeSet) cells() []run {
	var out []run
	for _, r := range s {
		begin := len(out)
		for _, open := range r.open() {
			cells := run{open.first.shiftRight(6), open.last.shiftRight(6)}
			if len(out) > begin && out[len(out)-1].last == cells.first {
				out[len(out)-1].last = cells.last // what is excluded between lies in one cell
				continue
			}
			out = append(out, cells)
		}
	}
	return out
}

// Capacity is the number of addresses that the set can hand out, at most the
// largest uint64.
func (s RangeSet) Capacity() uint64 { return s.capacity() }

// Bits is the length of the subnet of the range that a lies in, 0 if it lies in
// none.
func (s RangeSet) Bits(a netip.Addr) int {
	if i := s.find(a); i >= 0 {
		return s[i].Subnet.Bits()
	}
	return 0
}
