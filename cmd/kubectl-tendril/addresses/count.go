package addresses

import (
	"cmp"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"github.com/tendril-cni/tendril/cni/inspect"
	"github.com/tendril-cni/tendril/ipam"
	"github.com/tendril-cni/tendril/ipam/v1alpha1"
)

// Network is a definition's address management.
type Network struct {
	// Ref is "namespace/name".
	Ref    string
	Config ipam.Config
}

// Held is one address that a node's journal has.
type Held struct {
	Node string
	inspect.Held
}

// Row is one range of one network, or what a network without ranges has.
type Row struct {
	Network string `json:"network"`
	// Scope is "cluster", a node's name for ranges that each node hands out on its
	// own, or "each node" where none is used yet.
	Scope string `json:"scope"`
	Space string `json:"space,omitempty"`
	// Range is "start-end", empty for addresses that come from no range.
	Range string `json:"range,omitempty"`
	// Size is how many the range can hand out, nil without one.
	Size *big.Int `json:"size,omitempty"`
	Used int      `json:"used"`
	// Idle, Claimed and Quarantined are of the cluster's ranges alone.
	Idle        int `json:"idle"`
	Claimed     int `json:"claimed,omitempty"`
	Quarantined int `json:"quarantined,omitempty"`
	// Free is what is left, nil without a range.
	Free *big.Int `json:"free,omitempty"`
}

// Holder is who has one address.
type Holder struct {
	Address   string `json:"address"`
	Network   string `json:"network,omitempty"`
	Space     string `json:"space,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Interface string `json:"interface,omitempty"`
	Node      string `json:"node,omitempty"`
	// Note says of an address that no pod has why it is not free.
	Note string `json:"note,omitempty"`
}

// Facts are what is counted.
type Facts struct {
	Networks []Network
	Blocks   []*v1alpha1.AddressBlock
	Held     []Held
	Now      time.Time
}

// Count counts the ranges of networks, by network.
func Count(f Facts) []Row {
	c := counter{Facts: f, matched: map[int]bool{}}
	for _, n := range f.Networks {
		switch {
		case n.Config.Cluster != nil:
			for _, set := range n.Config.Cluster.Sets {
				for _, r := range set {
					c.cluster(n, r)
				}
			}
		case n.Config.HostLocal != nil:
			for _, set := range n.Config.HostLocal.Sets {
				for _, r := range set {
					c.local(n, r)
				}
			}
		}
	}
	c.others()
	slices.SortStableFunc(c.rows, func(a, b Row) int { return cmp.Compare(a.Network, b.Network) })
	return c.rows
}

type counter struct {
	Facts
	rows []Row
	// matched are the indices in Held of addresses that some range has.
	matched map[int]bool
}

func addr(h Held) netip.Addr {
	p, err := netip.ParsePrefix(h.Address)
	if err != nil {
		a, _ := netip.ParseAddr(h.Address)
		return a
	}
	return p.Addr()
}

// held returns the addresses in a range of those networks, each once.
func (c *counter) held(r ipam.Range, ours func(ref string) bool) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for i, h := range c.Held {
		if a := addr(h); a.IsValid() && within(r, a) && ours(h.Network) {
			out[a], c.matched[i] = h.Node, true
		}
	}
	return out
}

// cluster counts a range of which the cluster has one.
func (c *counter) cluster(n Network, r ipam.Range) {
	space := n.Config.Cluster.Space
	used := c.held(r, func(ref string) bool { return c.space(ref) == space })
	row := Row{Network: n.Ref, Scope: "cluster", Space: space, Range: r.String(), Size: Size(r), Used: len(used)}
	taken := len(used)
	for a, s := range c.slots(space) {
		if _, held := used[a]; held || !within(r, a) {
			continue
		}
		taken++
		switch {
		case s.Claim != "":
			row.Claimed++
		case s.Until != nil:
			row.Quarantined++
		default:
			row.Idle++
		}
	}
	row.Free = left(row.Size, taken)
	c.rows = append(c.rows, row)
}

// space returns the space of a network, and no space's name for one that has none.
func (c *counter) space(ref string) string {
	for _, n := range c.Networks {
		if n.Ref == ref && n.Config.Cluster != nil {
			return n.Config.Cluster.Space
		}
	}
	return "\x00"
}

// slots are the addresses of a space that are not free.
func (c *counter) slots(space string) map[netip.Addr]v1alpha1.Slot {
	out := map[netip.Addr]v1alpha1.Slot{}
	for _, b := range c.Blocks {
		in, cell, ok := b.Parse()
		if !ok || in != space {
			continue
		}
		for _, s := range b.Spec.Slots {
			if s.Until == nil || c.Now.Before(s.Until.Time) {
				out[cell.Addr(s.Slot)] = s
			}
		}
	}
	return out
}

// local counts a range that every node hands out on its own.
func (c *counter) local(n Network, r ipam.Range) {
	perNode := map[string]int{}
	for i, h := range c.Held {
		if a := addr(h); h.Network == n.Ref && a.IsValid() && within(r, a) {
			perNode[h.Node]++
			c.matched[i] = true
		}
	}
	if len(perNode) == 0 {
		c.rows = append(c.rows, Row{Network: n.Ref, Scope: "each node", Range: r.String(), Size: Size(r), Free: Size(r)})
	}
	for _, node := range slices.Sorted(maps.Keys(perNode)) {
		c.rows = append(c.rows, Row{Network: n.Ref, Scope: node, Range: r.String(), Size: Size(r), Used: perNode[node], Free: left(Size(r), perNode[node])})
	}
}

// others are addresses from no range that is known: static ones, those of foreign
// plugins, and of definitions that are gone.
func (c *counter) others() {
	used := map[string]int{}
	for i, h := range c.Held {
		if !c.matched[i] {
			used[h.Network]++
		}
	}
	for _, network := range slices.Sorted(maps.Keys(used)) {
		c.rows = append(c.rows, Row{Network: network, Used: used[network]})
	}
}

func left(size *big.Int, taken int) *big.Int {
	n := new(big.Int).Sub(size, big.NewInt(int64(taken)))
	if n.Sign() < 0 {
		return new(big.Int)
	}
	return n
}

// Holders lists who has which address, by network and address; addresses that a
// claim or the quarantine keeps are among them.
func Holders(f Facts) []Holder {
	var out []Holder
	c := counter{Facts: f}
	seen := map[string]map[netip.Addr]bool{}
	for _, h := range f.Held {
		out = append(out, Holder{Address: h.Address, Network: h.Network, Pod: h.Namespace + "/" + h.Pod, Interface: h.Interface, Node: h.Node})
		space := c.space(h.Network)
		if seen[space] == nil {
			seen[space] = map[netip.Addr]bool{}
		}
		seen[space][addr(h)] = true
	}
	for _, b := range f.Blocks {
		space, cell, ok := b.Parse()
		for _, s := range b.Spec.Slots {
			if a := cell.Addr(s.Slot); ok && !seen[space][a] && (s.Claim != "" || s.Until != nil && f.Now.Before(s.Until.Time)) {
				out = append(out, Holder{Address: a.String(), Space: space, Note: note(s)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Holder) int {
		x, y := addr(Held{Held: inspect.Held{Address: a.Address}}), addr(Held{Held: inspect.Held{Address: b.Address}})
		return cmp.Or(cmp.Compare(a.Network, b.Network), x.Compare(y), cmp.Compare(a.Node, b.Node))
	})
	return out
}

func note(s v1alpha1.Slot) string {
	if s.Claim != "" {
		return "claim " + s.Claim
	}
	text := "quarantined until " + s.Until.UTC().Format(time.RFC3339)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}
