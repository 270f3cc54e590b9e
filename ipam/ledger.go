package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Ledger is a node's part of the cluster's address spaces in its Store: which
// slots are the node's, and which attachment has which. Its first error sticks,
// and from then on it writes nothing: Err returns it.
//
// Reserve and Release move addresses between attachments and the node. The
// other methods move slots between the node and the cluster and are for
// ipam/kube. All of it belongs in read-write transactions, as with Reserve.
type Ledger struct {
	store Store
	err   error
}

// NewLedger returns the ledger in store.
func NewLedger(store Store) *Ledger { return &Ledger{store: store} }

// Err returns the first error.
func (l *Ledger) Err() error { return l.err }

// Keys of the ledger start with a zero byte, which no network's name does.
func ledgerKey(kind byte, parts ...string) []byte {
	return append([]byte{0, kind}, strings.Join(parts, "\x00")...)
}

func cellKey(space string, c Cell) []byte {
	b := c.id.bytes()
	return append(ledgerKey('c', space, ""), b[:]...)
}

func (l *Ledger) fail(op, what string, err error) {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("%s %s: %w", op, what, err)
	}
}

func (l *Ledger) put(key, value []byte) {
	if l.err == nil {
		l.fail("write", "ledger", l.store.Put(key, value))
	}
}

func (l *Ledger) drop(key []byte) {
	if l.err == nil {
		l.fail("write", "ledger", l.store.Delete(key))
	}
}

// load reads JSON into v and says whether there was any.
func (l *Ledger) load(key []byte, v any) bool {
	data := l.store.Get(key)
	if data == nil {
		return false
	}
	l.fail("decode", fmt.Sprintf("ledger key %q", key), json.Unmarshal(data, v))
	return l.err == nil
}

func (l *Ledger) save(key []byte, v any) {
	data, err := json.Marshal(v)
	l.fail("encode", "ledger", err)
	l.put(key, data)
}

// Spaces returns the names of the spaces of which the node has a cell.
func (l *Ledger) Spaces() []string {
	var out []string
	l.load(ledgerKey('I'), &out)
	return out
}

// Cells returns the cells of a space that the node has a record of, ascending.
func (l *Ledger) Cells(space string) []Cell {
	data := l.store.Get(ledgerKey('i', space))
	out := make([]Cell, 0, len(data)/16)
	for ; len(data) >= 16; data = data[16:] {
		out = append(out, Cell{slotOf(netip.AddrFrom16([16]byte(data)))})
	}
	return out
}

func (l *Ledger) setCells(space string, cells []Cell) {
	spaces := l.Spaces()
	at := slices.Index(spaces, space)
	switch {
	case len(cells) == 0 && at >= 0 && len(spaces) == 1:
		l.drop(ledgerKey('I'))
	case len(cells) == 0 && at >= 0:
		l.save(ledgerKey('I'), slices.Delete(spaces, at, at+1))
	case len(cells) > 0 && at < 0:
		l.save(ledgerKey('I'), append(spaces, space))
	}
	if len(cells) == 0 {
		l.drop(ledgerKey('i', space))
		return
	}
	var data []byte
	for _, c := range cells {
		b := c.id.bytes()
		data = append(data, b[:]...)
	}
	l.put(ledgerKey('i', space), data)
}

// Holding returns what the node has of a cell: the zero value for nothing.
func (l *Ledger) Holding(space string, c Cell) Holding {
	data := l.store.Get(cellKey(space, c))
	if data == nil {
		return Holding{}
	}
	h, err := decodeHolding(data)
	l.fail("decode", fmt.Sprintf("holding of %s in space %q", c, space), err)
	return h
}

func (l *Ledger) setHolding(space string, c Cell, h Holding) {
	cells := l.Cells(space)
	at, known := slices.BinarySearchFunc(cells, c, func(a, b Cell) int { return a.id.compare(b.id) })
	// Of a cell in which an attachment holds what the node lost the record stays: who
	// keeps the cells goes by it.
	if h.Owned == 0 && !h.Pending && l.held(space, c) == 0 {
		l.drop(cellKey(space, c))
		if known {
			l.setCells(space, slices.Delete(cells, at, at+1))
		}
		return
	}
	l.put(cellKey(space, c), h.encode())
	if !known {
		l.setCells(space, slices.Insert(cells, at, c))
	}
}

// Strays returns the slots of a cell that attachments hold although they are not the
// node's: it lost them, and has to ask again whether it can have them back.
func (l *Ledger) Strays(space string, c Cell) Mask {
	return l.held(space, c) &^ l.Holding(space, c).Owned
}

// held are the slots of a cell that attachments hold, whoever has them.
func (l *Ledger) held(space string, c Cell) (m Mask) {
	for i := range CellSize {
		if l.store.Get(slotKey(space, c.Addr(i))) != nil {
			m |= 1 << i
		}
	}
	return m
}

// Available returns the slots of a set that an attachment could have now, in all
// cells of the node.
func (l *Ledger) Available(space string, set RangeSet) int {
	n := 0
	for _, c := range l.Cells(space) {
		n += (set.Mask(c) & l.Holding(space, c).Available()).Count()
	}
	return n
}

// Holder returns the attachment that holds an address.
func (l *Ledger) Holder(space string, a netip.Addr) (Owner, bool) {
	var o Owner
	ok := l.load(slotKey(space, a), &o)
	return o, ok
}

func slotKey(space string, a netip.Addr) []byte { return ledgerKey('s', space, a.String()) }

// Expect records that a write of this node to the block of a cell is about to be
// sent, aimed at a resourceVersion, empty to create it. window is Holding's; 0
// leaves it as it is.
func (l *Ledger) Expect(space string, c Cell, version string, window int) {
	h := l.Holding(space, c)
	h.Pending, h.Version = true, version
	if window > 0 {
		h.Window = uint8(window)
	}
	l.setHolding(space, c, h)
}

// Refused records that the write announced by Expect was not done and never
// will be.
func (l *Ledger) Refused(space string, c Cell) {
	h := l.Holding(space, c)
	h.Pending, h.Version = false, ""
	l.setHolding(space, c, h)
}

// Confirmed is what the API server says of this node's slots in one block.
type Confirmed struct {
	// Mine are the node's slots, Suspect those to probe before use.
	Mine, Suspect Mask
	// Claimed are those that the node just asked for. What is mine and was
	// neither owned nor claimed is adopted: a record of it was lost, so it cools
	// and is suspect.
	Claimed Mask
}

// Sync makes the holding what the API server says, and returns the addresses
// that attachments of this node hold although the slots are no longer the
// node's: that takes a reclaim of a node that was not gone. No write of this node
// may be on its way when the block was read.
func (l *Ledger) Sync(space string, c Cell, says Confirmed) (lost []netip.Addr) {
	h := l.Holding(space, c)
	gone := h.Owned &^ says.Mine
	for _, i := range gone.Slots() {
		if h.Held().Has(i) {
			lost = append(lost, c.Addr(i))
			continue
		}
		l.forget(space, c.Addr(i))
	}
	fresh := says.Mine &^ h.Owned
	h = h.without(gone)
	h.Owned |= fresh
	for _, i := range fresh.Slots() {
		if _, held := l.Holder(space, c.Addr(i)); !held {
			h.Idle |= 1 << i
		}
	}
	adopted := fresh &^ says.Claimed & h.Idle
	h.Suspect |= fresh&says.Suspect | adopted
	h.Cooling |= adopted
	h.Pending, h.Version, h.Doubt, h.Leaving = false, "", false, 0
	l.setHolding(space, c, h)
	return lost
}

// Thaw ends the cooling of slots.
func (l *Ledger) Thaw(space string, c Cell, m Mask) {
	h := l.Holding(space, c)
	h.Cooling &^= m
	l.setHolding(space, c, h)
}

// Leave takes idle slots of m out of use, so that they can be given back, and
// returns all that are leaving. Cooling ones stay: somebody else would have them
// too early.
func (l *Ledger) Leave(space string, c Cell, m Mask) Mask {
	h := l.Holding(space, c)
	h.Leaving |= m & h.Idle &^ h.Cooling &^ h.Aside
	l.setHolding(space, c, h)
	return h.Leaving
}

// Distrust puts every holding in doubt: after a reboot or whenever the node may
// have been taken for gone.
func (l *Ledger) Distrust() {
	for _, space := range l.Spaces() {
		for _, c := range l.Cells(space) {
			h := l.Holding(space, c)
			h.Doubt = true
			l.setHolding(space, c, h)
		}
	}
}

// Outdated puts every holding in doubt, and every idle slot: the latest records are
// lost, and an attachment may have what seems idle.
func (l *Ledger) Outdated() {
	for _, space := range l.Spaces() {
		for _, c := range l.Cells(space) {
			h := l.Holding(space, c)
			h.Doubt, h.Suspect = true, h.Suspect|h.Idle
			l.setHolding(space, c, h)
		}
	}
}
