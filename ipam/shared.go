package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// heldWire is the index of an owner: its addresses, in the order of the sets.
type heldWire struct {
	Space string       `json:"space"`
	Addrs []netip.Addr `json:"addrs"`
	// Granted are addresses of the owner's claim: they are the claim's, not the
	// node's, so that no slot here stands for them.
	Granted []netip.Addr `json:"granted,omitempty"`
}

func ownersKey(network string, o Owner) []byte { return ledgerKey('o', network, o.Container, o.IfName) }

// hintKey is what a pod's interface had last; hintedKey is the way back.
func hintKey(space string, o Owner) []byte { return ledgerKey('p', space, o.Pod, o.IfName) }

func hintedKey(space string, a netip.Addr) []byte { return ledgerKey('w', space, a.String()) }

// choice is an address for one set.
type choice struct {
	addr netip.Addr
	// fresh is false for what the owner holds already.
	fresh bool
	// from is the owner that it is taken over from: the same pod's earlier
	// sandbox.
	from *Owner
}

// reserve is Reserve for addresses that the cluster shares.
func (l *Ledger) reserve(network string, c *Cluster, owner Owner, asked []netip.Prefix) (Lease, error) {
	var had heldWire
	l.load(ownersKey(network, owner), &had)
	if len(had.Addrs) > 0 && had.Space != c.Space {
		return Lease{}, refusal.New("", "ipam", c.Space, fmt.Sprintf("address space %q, where %s has addresses", had.Space, owner))
	}
	if owner.Claim != "" {
		return l.reserveClaimed(network, c, owner, had)
	}
	picks, err := l.decide(network, c, owner, asked, had)
	if err != nil {
		return Lease{}, err
	}
	had.Space = c.Space
	for _, p := range picks {
		if p.fresh {
			l.hold(network, c.Space, p, owner)
			had.Addrs = append(had.Addrs, p.addr)
		}
	}
	l.save(ownersKey(network, owner), had)
	lease := l.lease(c, picks)
	lease.Slots = freed(picks)
	return lease, l.err
}

// decide reads, and does not write.
func (l *Ledger) decide(network string, c *Cluster, owner Owner, asked []netip.Prefix, had heldWire) ([]choice, error) {
	picks := make([]choice, len(c.Sets))
	for i, set := range c.Sets {
		at := slices.IndexFunc(had.Addrs, func(a netip.Addr) bool { return set.Hands(a) && !chosen(picks, a) })
		if at >= 0 {
			picks[i].addr = had.Addrs[at]
		}
	}
	need := &NeedSlots{Space: c.Space, Network: network, Owner: owner}
	if err := l.decideAsked(picks, c, owner, asked, need); err != nil {
		return nil, err
	}
	l.decideHinted(picks, c, owner)
	for i, set := range c.Sets {
		if picks[i].addr.IsValid() {
			continue
		}
		a, ok := l.lowest(c.Space, set, picks)
		if !ok {
			need.Wants = append(need.Wants, Want{Index: i, Set: set})
			continue
		}
		picks[i] = choice{addr: a, fresh: true}
	}
	if l.err == nil && len(need.Wants) > 0 {
		need.Beside = freed(picks)
		return nil, need
	}
	return picks, l.err
}

// freed are those picks that are free slots of the node if nothing is written.
func freed(picks []choice) (out []netip.Addr) {
	for _, p := range picks {
		if p.fresh && p.from == nil {
			out = append(out, p.addr)
		}
	}
	return out
}

// Hands reports whether the set may hand out a.
func (s RangeSet) Hands(a netip.Addr) bool {
	c := CellOf(a)
	return s.find(a) >= 0 && s.Mask(c).Has(c.Index(a))
}

func chosen(picks []choice, a netip.Addr) bool {
	return slices.ContainsFunc(picks, func(p choice) bool { return p.addr == a })
}

// decideAsked gives every address asked for to the first set that may hand it
// out. A set takes one.
func (l *Ledger) decideAsked(picks []choice, c *Cluster, owner Owner, asked []netip.Prefix, need *NeedSlots) error {
	taken := make([]bool, len(c.Sets))
	for i, p := range asked {
		set := slices.IndexFunc(c.Sets, func(s RangeSet) bool { return s.Hands(p.Addr()) })
		if set < 0 {
			return refusal.New("", asking(i), shown(p), "an address of "+allowed(c.Sets))
		}
		if taken[set] {
			return refusal.New("", asking(i), shown(p), fmt.Sprintf("one address of range set %d (%s)", set, c.Sets[set]))
		}
		taken[set] = true
		if has := picks[set].addr; has.IsValid() {
			if has != p.Addr() {
				return refusal.New("", asking(i), shown(p), fmt.Sprintf("%s, which %s holds already", has, owner))
			}
			continue
		}
		one, err := l.ask(asking(i), c, owner, p.Addr())
		if err != nil {
			return err
		}
		if !one.fresh {
			need.Wants = append(need.Wants, Want{Index: set, Set: c.Sets[set], Addr: p.Addr(), Asked: i})
		}
		picks[set] = one
	}
	return l.err
}

// ask returns a choice that is fresh if the node has a for owner.
func (l *Ledger) ask(field string, c *Cluster, owner Owner, a netip.Addr) (choice, error) {
	cell := CellOf(a)
	h := l.Holding(c.Space, cell)
	holder, held := l.Holder(c.Space, a)
	switch {
	case held && holder.before(owner) && h.passes(cell.Index(a)):
		return choice{addr: a, fresh: true, from: &holder}, nil
	case held && holder.before(owner):
		// Another node may have it by now: the claim finds out.
		return choice{addr: a}, nil
	case held:
		return choice{}, refusal.New("", field, a.String(), fmt.Sprintf("a free address of %s; this one is held by %s", allowed(c.Sets), holder))
	}
	return choice{addr: a, fresh: h.forReuse().Has(cell.Index(a))}, nil
}

// before says whether o is an earlier sandbox of the same pod's interface: its
// address passes on to p.
func (o Owner) before(p Owner) bool {
	return o.UID != "" && o.UID == p.UID && o.Pod == p.Pod && o.IfName == p.IfName && o.Container != p.Container
}

// decideHinted gives a pod's interface what it had last, if that is still free.
func (l *Ledger) decideHinted(picks []choice, c *Cluster, owner Owner) {
	var last []netip.Addr
	if owner.Pod == "" || !l.load(hintKey(c.Space, owner), &last) {
		return
	}
	for i, set := range c.Sets {
		for _, a := range last {
			if picks[i].addr.IsValid() || !set.Hands(a) || chosen(picks, a) {
				continue
			}
			// Somebody else's address is no error here: there are others.
			if one, err := l.ask("", c, owner, a); err == nil && one.fresh {
				picks[i] = one
			}
		}
	}
}

// lowest returns the lowest address of set that the node has to give, range by
// range.
func (l *Ledger) lowest(space string, set RangeSet, picks []choice) (netip.Addr, bool) {
	cells := l.Cells(space)
	for _, r := range set {
		at, _ := slices.BinarySearchFunc(cells, CellOf(r.Start), func(a, b Cell) int { return a.id.compare(b.id) })
		last := CellOf(r.End)
		for ; at < len(cells) && !last.id.less(cells[at].id); at++ {
			m := r.mask(cells[at]) & l.Holding(space, cells[at]).Available()
			for _, i := range m.Slots() {
				if a := cells[at].Addr(i); !chosen(picks, a) {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

// hold makes owner the holder of the choice.
func (l *Ledger) hold(network, space string, p choice, owner Owner) {
	if p.from != nil {
		l.unlist(network, *p.from, p.addr)
	}
	cell := CellOf(p.addr)
	bit := Mask(1) << cell.Index(p.addr)
	h := l.Holding(space, cell)
	h.Idle &^= bit
	h.Cooling &^= bit
	l.setHolding(space, cell, h)
	l.save(slotKey(space, p.addr), owner)
	l.hint(space, p.addr, owner)
}

// unlist takes an address out of an owner's index.
func (l *Ledger) unlist(network string, o Owner, a netip.Addr) {
	var had heldWire
	if !l.load(ownersKey(network, o), &had) {
		return
	}
	had.Addrs = slices.DeleteFunc(had.Addrs, func(b netip.Addr) bool { return a == b })
	if len(had.Addrs)+len(had.Granted) == 0 {
		l.drop(ownersKey(network, o))
		return
	}
	l.save(ownersKey(network, o), had)
}

// hint remembers that owner's pod had a, and that nobody else did since.
func (l *Ledger) hint(space string, a netip.Addr, owner Owner) {
	if owner.Pod == "" {
		l.forget(space, a)
		return
	}
	key := hintKey(space, owner)
	if string(l.store.Get(hintedKey(space, a))) == string(key) {
		return
	}
	l.forget(space, a)
	var last []netip.Addr
	l.load(key, &last)
	l.save(key, append(last, a))
	l.put(hintedKey(space, a), key)
}

// forget drops the hint of a.
func (l *Ledger) forget(space string, a netip.Addr) {
	key := slices.Clone(l.store.Get(hintedKey(space, a)))
	if key == nil {
		return
	}
	var last []netip.Addr
	l.load(key, &last)
	last = slices.DeleteFunc(last, func(b netip.Addr) bool { return a == b })
	if len(last) == 0 {
		l.drop(key)
	} else {
		l.save(key, last)
	}
	l.drop(hintedKey(space, a))
}

// release frees what owner holds.
func (l *Ledger) release(network string, owner Owner) error {
	l.drop(grantKey(network, owner))
	var had heldWire
	if !l.load(ownersKey(network, owner), &had) {
		return l.err
	}
	for _, a := range had.Addrs {
		// A slot of somebody else is not ours to free, whatever our index says.
		if h, ok := l.Holder(had.Space, a); !ok || !h.same(owner) {
			continue
		}
		l.drop(slotKey(had.Space, a))
		cell := CellOf(a)
		h := l.Holding(had.Space, cell)
		bit := Mask(1) << cell.Index(a)
		h.Idle |= bit & h.Owned
		h.Cooling |= bit & h.Owned
		l.setHolding(had.Space, cell, h)
	}
	l.drop(ownersKey(network, owner))
	return l.err
}

// lease dresses the choices with subnet and gateway of their ranges.
func (l *Ledger) lease(c *Cluster, picks []choice) Lease {
	out := Lease{Routes: c.Routes, DNS: c.DNS}
	for i, p := range picks {
		r := c.Sets[i][c.Sets[i].find(p.addr)]
		cell := CellOf(p.addr)
		suspect := l.Holding(c.Space, cell).Suspect.Has(cell.Index(p.addr))
		out.Addresses = append(out.Addresses, Address{
			Prefix: netip.PrefixFrom(p.addr, r.Subnet.Bits()), Gateway: r.Gateway, Suspect: c.suspect(suspect),
		})
	}
	out.Addresses = append(out.Addresses, c.Static...)
	return out
}

// suspect says whether an address has to be probed.
func (c *Cluster) suspect(doubtful bool) bool {
	switch c.Probe {
	case ProbeOff:
		return false
	case ProbeAlways:
		return true
	}
	return doubtful
}

// allowed prints ranges with what they leave out.
func allowed(sets []RangeSet) string {
	var parts []string
	for _, set := range sets {
		for _, r := range set {
			text := r.String()
			if r.Gateway.IsValid() {
				text += " without gateway " + r.Gateway.String()
			}
			for _, x := range r.Exclude {
				text += " without " + x.String()
			}
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, ", ")
}

// Proved records that the addresses of owner answered no probe: they are suspect
// no longer.
func Proved(store Store, network string, owner Owner) error {
	l := NewLedger(store)
	var had heldWire
	l.load(ownersKey(network, owner), &had)
	for _, a := range had.Addrs {
		cell := CellOf(a)
		h := l.Holding(had.Space, cell)
		if bit := Mask(1) << cell.Index(a); h.Suspect&bit != 0 {
			h.Suspect &^= bit
			l.setHolding(had.Space, cell, h)
		}
	}
	return l.err
}

// SetAside takes a from owner because something else on the wire has it: it is
// not handed out again and goes into quarantine. Reserve for the same owner then
// gives another. It succeeds when owner does not hold a.
func SetAside(store Store, network string, owner Owner, a netip.Addr) error {
	l := NewLedger(store)
	var had heldWire
	l.load(ownersKey(network, owner), &had)
	holder, ok := l.Holder(had.Space, a)
	if !ok || !holder.same(owner) {
		return l.err
	}
	l.unlist(network, owner, a)
	l.drop(slotKey(had.Space, a))
	l.forget(had.Space, a)
	cell := CellOf(a)
	h := l.Holding(had.Space, cell)
	bit := Mask(1) << cell.Index(a)
	h.Idle |= bit & h.Owned
	h.Aside |= bit & h.Owned
	h.Suspect |= bit & h.Owned
	l.setHolding(had.Space, cell, h)
	return l.err
}

// Adopt makes owner the holder of an address that is this node's, whatever ranges
// say: another allocator gave it. It is an error if the node does not have the
// slot or somebody else holds it.
func (l *Ledger) Adopt(network, space string, owner Owner, a netip.Addr) {
	cell := CellOf(a)
	holder, held := l.Holder(space, a)
	switch {
	case held && holder.same(owner):
		return
	case held:
		l.fail("adopt", a.String(), fmt.Errorf("held by %s", holder))
		return
	case !l.Holding(space, cell).forReuse().Has(cell.Index(a)):
		l.fail("adopt", a.String(), fmt.Errorf("not this node's"))
		return
	}
	var had heldWire
	l.load(ownersKey(network, owner), &had)
	had.Space = space
	had.Addrs = append(had.Addrs, a)
	l.hold(network, space, choice{addr: a, fresh: true}, owner)
	l.save(ownersKey(network, owner), had)
}
