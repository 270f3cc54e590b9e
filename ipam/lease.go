package ipam

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
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

// capacity is the number of addresses that the set can hand out.
func (s RangeSet) capacity() uint64 {
	var sum uint64
	for _, r := range s {
		n := slotOf(r.Start).count(slotOf(r.End))
		if r.contains(r.Gateway) && n < math.MaxUint64 {
			n--
		}
		if sum += n; sum < n {
			return math.MaxUint64
		}
	}
	return sum
}
