package whereabouts

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

// Pool is an IPPool of whereabouts.cni.cncf.io/v1alpha1.
type Pool struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
	} `json:"metadata"`
	Spec struct {
		// Range is the CIDR.
		Range string `json:"range"`
		// Allocations are by decimal offset from the range's first address.
		Allocations map[string]Allocation `json:"allocations"`
	} `json:"spec"`
}

// Allocation is one entry of a Pool.
type Allocation struct {
	ContainerID string `json:"id"`
	// PodRef is "namespace/name".
	PodRef string `json:"podref"`
	IfName string `json:"ifname,omitempty"`
}

// Address is an allocation with its address and space.
type Address struct {
	Space string
	Addr  netip.Addr
	Allocation
}

// Addresses returns the allocations of a pool, by address. It refuses a pool
// whose name and range disagree. Those of node slices agree: they are called
// "<space>-<node>-<slice>", or "<node>-<slice>", and what is before the slice is taken
// for the space (see Reservations.Importable).
func (p Pool) Addresses() ([]Address, error) {
	prefix, err := p.prefix()
	if err != nil {
		return nil, err
	}
	own := normalise(prefix)
	space := ""
	if p.Metadata.Name != own {
		var ok bool
		if space, ok = strings.CutSuffix(p.Metadata.Name, "-"+own); !ok {
			return nil, refusal.New("IPPool "+p.Metadata.Name, "metadata.name", p.Metadata.Name, own+", or that behind a network's name and a dash")
		}
	}
	return p.AddressesIn(space)
}

// AddressesIn is Addresses for a pool of a known space.
func (p Pool) AddressesIn(space string) ([]Address, error) {
	prefix, err := p.prefix()
	if err != nil {
		return nil, err
	}
	var out []Address
	for offset, a := range p.Spec.Allocations {
		addr, ok := at(prefix, offset)
		if !ok {
			return nil, refusal.New("IPPool "+p.Metadata.Name, "spec.allocations", offset, "a decimal offset into "+prefix.String())
		}
		out = append(out, Address{Space: space, Addr: addr, Allocation: a})
	}
	slices.SortFunc(out, func(a, b Address) int { return cmp.Or(a.Addr.Compare(b.Addr)) })
	return out, nil
}

func (p Pool) prefix() (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(p.Spec.Range)
	if err != nil {
		return prefix, refusal.New("IPPool "+p.Metadata.Name, "spec.range", p.Spec.Range, "a CIDR")
	}
	return prefix.Masked(), nil
}

// at returns the address at a decimal offset. whereabouts writes offsets as
// unsigned and reads them as signed numbers of 64 bits; here they have any width.
func at(prefix netip.Prefix, offset string) (netip.Addr, bool) {
	n, ok := new(big.Int).SetString(offset, 10)
	if !ok || n.Sign() < 0 || n.String() != offset {
		return netip.Addr{}, false
	}
	first := prefix.Addr()
	n.Add(n, new(big.Int).SetBytes(first.AsSlice()))
	if n.BitLen() > first.BitLen() {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(n.FillBytes(make([]byte, first.BitLen()/8)))
	return a, ok && prefix.Contains(a)
}

// Export returns the pools that whereabouts would have for the addresses, one for
// each range that an address lies in; ranges are those of the definitions, by
// space. An address in several ranges of its space goes into each, as whereabouts
// looks only into the pool of the range at hand. One that lies in no range is
// returned in left.
func Export(addresses []Address, ranges map[string][]netip.Prefix) (pools []Pool, left []Address) {
	byName := map[string]*Pool{}
	for _, a := range addresses {
		found := false
		for _, r := range ranges[a.Space] {
			if r = r.Masked(); !r.Contains(a.Addr) {
				continue
			}
			found = true
			name := PoolName(a.Space, r)
			if byName[name] == nil {
				p := &Pool{}
				p.Metadata.Name, p.Spec.Range, p.Spec.Allocations = name, r.String(), map[string]Allocation{}
				byName[name] = p
			}
			byName[name].Spec.Allocations[offset(r, a.Addr)] = a.Allocation
		}
		if !found {
			left = append(left, a)
		}
	}
	for _, p := range byName {
		pools = append(pools, *p)
	}
	slices.SortFunc(pools, func(a, b Pool) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	return pools, left
}

func offset(r netip.Prefix, a netip.Addr) string {
	n := new(big.Int).SetBytes(a.AsSlice())
	return n.Sub(n, new(big.Int).SetBytes(r.Addr().AsSlice())).String()
}

// PoolName is the name that whereabouts gives the pool of a range.
func PoolName(space string, r netip.Prefix) string {
	if space == "" {
		return normalise(r.Masked())
	}
	return space + "-" + normalise(r.Masked())
}

// normalise is a range as part of a name.
func normalise(r netip.Prefix) string {
	return strings.NewReplacer(":", "-", "/", "-").Replace(r.String())
}

// ReservationName is the name of the OverlappingRangeIPReservation of an address.
func ReservationName(space string, a netip.Addr) string {
	name := strings.ReplaceAll(a.String(), ":", "-")
	if strings.HasSuffix(name, "-") {
		name += "0"
	}
	if space == "" {
		return name
	}
	return space + "-" + name
}

// Owner is the owner that an imported address has here.
func (a Address) Owner() ipam.Owner {
	return ipam.Owner{Container: a.ContainerID, IfName: a.IfName, Pod: a.PodRef}
}

// String names a for people.
func (a Address) String() string {
	return fmt.Sprintf("%s of pod %s, interface %s", a.Addr, a.PodRef, a.IfName)
}
