package ipam

import "net/netip"

// grantKey is what the claim of one attachment was found to have.
func grantKey(network string, o Owner) []byte { return ledgerKey('g', network, o.Container, o.IfName) }

// Grant records the addresses of owner's claim, one of each set, for the Reserve
// that follows. They are the claim's: Release ends the use of them and no more.
func (l *Ledger) Grant(network string, owner Owner, addrs []netip.Addr) {
	l.save(grantKey(network, owner), addrs)
}

// Ungrant forgets what a claim was found to have for owner, where no Reserve follows.
func Ungrant(store Store, network string, owner Owner) error {
	l := NewLedger(store)
	l.drop(grantKey(network, owner))
	return l.err
}

// reserveClaimed gives owner the addresses of its claim. The claim's slots belong
// to no node, so two sandboxes can have them at once: a virtual machine that
// migrates.
func (l *Ledger) reserveClaimed(network string, c *Cluster, owner Owner, had heldWire) (Lease, error) {
	granted := had.Granted
	if len(granted) == 0 {
		l.load(grantKey(network, owner), &granted)
	}
	picks := make([]choice, len(c.Sets))
	need := &NeedSlots{Space: c.Space, Network: network, Owner: owner, Make: c.Sticky}
	for i, set := range c.Sets {
		for _, a := range granted {
			if set.find(a) >= 0 && !chosen(picks, a) && !picks[i].addr.IsValid() {
				picks[i].addr = a
			}
		}
		if !picks[i].addr.IsValid() {
			need.Wants = append(need.Wants, Want{Index: i, Set: set})
		}
	}
	if len(need.Wants) > 0 {
		return Lease{}, need
	}
	had.Space, had.Granted = c.Space, granted
	l.save(ownersKey(network, owner), had)
	l.drop(grantKey(network, owner))
	return l.lease(c, picks), l.err
}
