package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Reserve gives owner its addresses in network, the CNI network's name
// (netconf.Network.Name): definitions of one name share one address space. asked
// are the addresses asked for (see ParseAsked), nil for any.
//
// host-local takes one address of each range set: the one that owner holds
// already, else the one asked for, else the next free one after the set's last
// reservation. static returns the configured addresses, or those asked for in
// their stead, and stores nothing.
//
// tendril and whereabouts take one address of each set too, the lowest that the
// node has: what the owner holds, what is asked for, what the same pod's
// interface had last, else the lowest available.
//
// Errors: refusal.Refusal for what cannot be had, naming the holder or the
// ranges; *ExhaustedError; *NeedSlots when the node has to claim slots first; or
// what the Store said. Nothing was written in the first three cases.
func Reserve(store Store, network string, cfg Config, owner Owner, asked []netip.Prefix) (Lease, error) {
	switch {
	case cfg.Static != nil:
		return cfg.Static.lease(asked)
	case cfg.HostLocal == nil && cfg.Cluster == nil:
		return Lease{}, refusal.New("", "ipam.type", cfg.Type, types)
	}
	if err := check(network, owner); err != nil {
		return Lease{}, err
	}
	if cfg.Cluster != nil {
		return NewLedger(store).reserve(network, cfg.Cluster, owner, asked)
	}
	s := &space{store: store, network: network}
	d, err := s.decide(cfg.HostLocal.Sets, owner, asked)
	if err != nil {
		return Lease{}, err
	}
	if err := s.record(d, owner); err != nil {
		return Lease{}, err
	}
	return Lease{Addresses: d.lease(cfg.HostLocal.Sets), Routes: cfg.HostLocal.Routes}, nil
}

// Release frees every address that owner holds in network, whatever the
// configuration says now. It succeeds when there is none.
func Release(store Store, network string, owner Owner) error {
	if err := check(network, owner); err != nil {
		return err
	}
	s := &space{store: store, network: network}
	for _, a := range s.held(owner) {
		// A slot of somebody else is not ours to free, whatever our index says.
		if h, ok := s.holder(a); s.err == nil && ok && h.same(owner) {
			s.drop(s.slotKey(a))
			s.give(slotOf(a))
		}
	}
	s.drop(s.ownerKey(owner))
	if s.err != nil {
		return s.err
	}
	return NewLedger(store).release(network, owner)
}

func check(network string, owner Owner) error {
	if network == "" || strings.ContainsRune(network, 0) {
		return refusal.New("", "name", network, "the name of a network, without zero bytes")
	}
	return owner.check()
}

// lease returns the configured addresses or, in their stead, those asked for.
func (c *Static) lease(asked []netip.Prefix) (Lease, error) {
	l := Lease{Addresses: slices.Clone(c.Addresses), Routes: c.Routes, DNS: c.DNS}
	if len(asked) > 0 {
		l.Addresses = nil
	}
	for i, p := range asked {
		if !p.IsValid() {
			return Lease{}, refusal.New("", asking(i), shown(p), "an address with prefix length, as ipam type static needs it")
		}
		l.Addresses = append(l.Addresses, Address{Prefix: p, Gateway: c.gateway(p.Addr())})
	}
	if len(l.Addresses) == 0 {
		return Lease{}, refusal.New("", "ipam.addresses", "[]", "at least one address, here or in the pod's ips")
	}
	return l, nil
}

// gateway returns the gateway of the configured subnet that a lies in.
func (c *Static) gateway(a netip.Addr) netip.Addr {
	for _, own := range c.Addresses {
		if own.Prefix.Masked().Contains(a) {
			return own.Gateway
		}
	}
	return netip.Addr{}
}

// decision is what Reserve will write: an address for each set, and whether it
// is new.
type decision struct {
	addrs []netip.Addr
	fresh []bool
	// held is what the owner had before, whether a set wants it or not.
	held []netip.Addr
}

// decide reads, and does not write.
func (s *space) decide(sets []RangeSet, owner Owner, asked []netip.Prefix) (decision, error) {
	d := decision{addrs: make([]netip.Addr, len(sets)), fresh: make([]bool, len(sets)), held: s.held(owner)}
	for i, set := range sets {
		if at := slices.IndexFunc(d.held, func(a netip.Addr) bool { return set.find(a) >= 0 }); at >= 0 {
			d.addrs[i] = d.held[at]
		}
	}
	if err := s.decideAsked(&d, sets, owner, asked); err != nil {
		return decision{}, err
	}
	for i, set := range sets {
		if d.addrs[i].IsValid() {
			continue
		}
		a, ok := s.nextFree(set, s.last(i))
		if s.err != nil {
			return decision{}, s.err
		}
		if !ok {
			return decision{}, &ExhaustedError{Network: s.network, Set: i, Ranges: set, Used: set.capacity()}
		}
		d.addrs[i], d.fresh[i] = a, true
	}
	return d, s.err
}

// decideAsked gives every address asked for to the first set that contains it.
// A set takes one.
func (s *space) decideAsked(d *decision, sets []RangeSet, owner Owner, asked []netip.Prefix) error {
	taken := make([]bool, len(sets))
	for i, p := range asked {
		set := slices.IndexFunc(sets, func(r RangeSet) bool { return r.find(p.Addr()) >= 0 })
		if set < 0 {
			return refusal.New("", asking(i), shown(p), "an address of "+ranges(sets))
		}
		r := sets[set][sets[set].find(p.Addr())]
		if taken[set] {
			return refusal.New("", asking(i), shown(p), fmt.Sprintf("one address of range set %d (%s)", set, sets[set]))
		}
		taken[set] = true
		if err := s.available(asking(i), p.Addr(), r, owner, d.addrs[set]); err != nil {
			return err
		}
		d.fresh[set] = d.addrs[set] != p.Addr()
		d.addrs[set] = p.Addr()
	}
	return s.err
}

// available refuses a when owner cannot have it. has is what owner holds in the
// same set, if anything.
func (s *space) available(field string, a netip.Addr, r Range, owner Owner, has netip.Addr) error {
	free := "a free address of " + r.String()
	if a == r.Gateway {
		return refusal.New("", field, a.String(), free+"; this one is the gateway's")
	}
	holder, held := s.holder(a)
	switch {
	case s.err != nil:
		return s.err
	case held && !holder.same(owner):
		return refusal.New("", field, a.String(), fmt.Sprintf("%s; this one is held by %s", free, holder))
	case has.IsValid() && has != a:
		return refusal.New("", field, a.String(), fmt.Sprintf("%s, which %s holds already", has, owner))
	}
	return nil
}

func ranges(sets []RangeSet) string {
	parts := make([]string, len(sets))
	for i, s := range sets {
		parts[i] = s.String()
	}
	return strings.Join(parts, ", ")
}

// nextFree goes once around the set: from after last to the end of its range,
// through the ranges that follow, and back to last. It starts at the beginning
// when last is in no range.
func (s *space) nextFree(set RangeSet, last netip.Addr) (netip.Addr, bool) {
	at := set.find(last)
	if at < 0 {
		return s.firstFree(set)
	}
	behind := Range{Start: last.Next(), End: set[at].End, Gateway: set[at].Gateway}
	before := Range{Start: set[at].Start, End: last, Gateway: set[at].Gateway}
	round := make(RangeSet, 0, len(set)+1)
	round = append(round, behind)
	round = append(round, set[at+1:]...)
	round = append(round, set[:at]...)
	return s.firstFree(append(round, before))
}

// firstFree returns the lowest free address of the first range that has one.
func (s *space) firstFree(set RangeSet) (netip.Addr, bool) {
	for _, r := range set {
		if !r.Start.IsValid() || r.End.Less(r.Start) {
			continue // nothing behind the last address
		}
		lo, hi := slotOf(r.Start), slotOf(r.End)
		found, ok := s.free(lo, hi)
		if ok && found.addr() == r.Gateway {
			if found, ok = found.next(); ok {
				found, ok = s.free(found, hi)
			}
		}
		if ok {
			return found.addr(), true
		}
	}
	return netip.Addr{}, false
}

// record writes what was decided. What was held already is left alone.
func (s *space) record(d decision, owner Owner) error {
	all := d.held
	for i, a := range d.addrs {
		if !d.fresh[i] {
			continue
		}
		s.own(a, owner)
		s.put(s.lastKey(i), []byte(a.String()))
		all = append(all, a)
	}
	if len(all) > len(d.held) {
		s.index(owner, all)
	}
	return s.err
}

// lease dresses the addresses with subnet and gateway of their ranges.
func (d decision) lease(sets []RangeSet) []Address {
	out := make([]Address, len(sets))
	for i, a := range d.addrs {
		r := sets[i][sets[i].find(a)]
		out[i] = Address{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway}
	}
	return out
}
