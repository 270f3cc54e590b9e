package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Owner is who holds an address. Container and IfName identify it (CNI: one
// attachment); Pod and UID are for people who meet the record later.
type Owner struct {
	Container string `json:"container"`
	IfName    string `json:"ifName"`
	// Pod is "namespace/name", UID the pod's metadata.uid.
	Pod string `json:"pod,omitempty"`
	UID string `json:"uid,omitempty"`
	// Claim is "namespace/name" of the claim whose addresses the attachment uses
	// (an IPAMClaim, or a StatefulSet's pod in a sticky network); empty for none.
	Claim string `json:"claim,omitempty"`
}

// String names o for a person.
func (o Owner) String() string {
	s := fmt.Sprintf("container %s, interface %s", o.Container, o.IfName)
	if o.Pod != "" {
		s = fmt.Sprintf("pod %s, %s", o.Pod, s)
	}
	return s
}

func (o Owner) same(p Owner) bool { return o.Container == p.Container && o.IfName == p.IfName }

// check refuses what cannot be part of a key.
func (o Owner) check() error {
	for _, f := range []struct{ field, value string }{{"container", o.Container}, {"interface", o.IfName}} {
		if f.value == "" || strings.ContainsRune(f.value, 0) {
			return refusal.New("owner", f.field, f.value, "not empty, without zero bytes")
		}
	}
	return nil
}

// Address is one address of a lease. Prefix carries the address itself and the
// length of its subnet; Gateway is zero where there is none.
type Address struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	// Suspect says that the address is to be probed before it is used.
	Suspect bool `json:"suspect,omitempty"`
}

// Route is a route that comes with a lease, as in CNI 1.1 results. Zero means
// unset; Table and Scope nil mean unset. It has the fields of cni.Route in the
// same order: cni.Route(r) converts.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Via      netip.Addr   `json:"via,omitzero"`
	MTU      int          `json:"mtu,omitempty"`
	AdvMSS   int          `json:"advmss,omitempty"`
	Priority int          `json:"priority,omitempty"`
	Table    *int         `json:"table,omitempty"`
	Scope    *int         `json:"scope,omitempty"`
}

// DNS is the dns object of a CNI result. netconf.DNS(d) converts.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// Lease is what an attachment gets: at least one address, in the order of the
// range sets or of the configured addresses.
type Lease struct {
	Addresses []Address `json:"addresses,omitempty"`
	Routes    []Route   `json:"routes,omitempty"`
	DNS       DNS       `json:"dns,omitzero"`
	// Slots are those of Addresses that were free slots of the node until now; they
	// are for [NeedSlots] of a later request in the same transaction.
	Slots []netip.Addr `json:"-"`
}

// ErrExhausted is in the chain of every error that says a range set has no free
// address left. It may pass: CNI code 11, try again later.
var ErrExhausted = errors.New("no free address")

// ExhaustedError says which range set is used up. errors.Is(err, ErrExhausted)
// holds for it.
type ExhaustedError struct {
	Network string
	// Set is the index of the range set, Ranges its ranges.
	Set    int
	Ranges RangeSet
	// Used is how many addresses are in use: all that the set can hand out, at
	// most the largest uint64.
	Used uint64
}

// Error names network, ranges and the number of addresses in use.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("network %q: range set %d (%s): %d of %d addresses in use: %v",
		e.Network, e.Set, e.Ranges, e.Used, e.Used, ErrExhausted)
}

// Unwrap returns ErrExhausted.
func (e *ExhaustedError) Unwrap() error { return ErrExhausted }

// SharedExhaustedError says that no node of the cluster gives a slot of a range
// set away. errors.Is(err, ErrExhausted) holds for it.
type SharedExhaustedError struct {
	Space string
	// Set is the index of the range set, Ranges its ranges.
	Set    int
	Ranges RangeSet
	// Capacity is how many addresses the set can hand out; Nodes, Claims and
	// Quarantined are who has how many of those that were looked at.
	Capacity            uint64
	Nodes               map[string]int
	Claims, Quarantined int
	// Here are those of this node, by what they are: in use, idle (cooling down
	// among them).
	HereUsed, HereIdle int
}

// Error says how many addresses are used and by whom, the largest holders first.
func (e *SharedExhaustedError) Error() string {
	names := slices.SortedFunc(maps.Keys(e.Nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(e.Nodes[b], e.Nodes[a]), cmp.Compare(a, b))
	})
	total, who := 0, make([]string, 0, 6)
	for i, n := range names {
		total += e.Nodes[n]
		switch {
		case i < 5:
			who = append(who, fmt.Sprintf("%s %d", n, e.Nodes[n]))
		case i == 5:
			who = append(who, fmt.Sprintf("%d more nodes", len(names)-5))
		}
	}
	return fmt.Sprintf("address space %q: range set %d (%s): %d addresses, %d with nodes (%s; here %d in use, %d idle), %d with claims, %d in quarantine: %v",
		e.Space, e.Set, e.Ranges, e.Capacity, total, strings.Join(who, ", "), e.HereUsed, e.HereIdle, e.Claims, e.Quarantined, ErrExhausted)
}

// Unwrap returns ErrExhausted.
func (e *SharedExhaustedError) Unwrap() error { return ErrExhausted }

// capacity is Capacity.
func (s RangeSet) capacity() uint64 {
	var sum uint64
	for _, r := range s {
		sum = saturated(sum, r.capacity())
	}
	return sum
}
