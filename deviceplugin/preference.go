package deviceplugin

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// Prefer chooses size devices out of available, all of must among them
// (GetPreferredAllocation). Devices of one NUMA node go together first, unless
// the resource excludes topology; of the nodes that are enough on their own, the
// one with the least left over is used up first. Within a node the resource's
// Policy holds. Pack keeps to one PF, by the same rule, so that larger requests
// find whole ones later. Spread takes one device after the other from the PF
// that gave the fewest to this request, and of these the one with the most free.
// Devices of one PF go in the order of their addresses, and so does every tie.
//
// The kubelet's list may be older than the pool: ids that are not in the pool any
// more are passed over, and so are unhealthy devices while the others are enough.
//
// It refuses a must that is not available or too long, and a size above what is
// available.
func (p *Pool) Prefer(available, must []string, size int) ([]string, error) {
	free, err := p.lookup(slices.DeleteFunc(slices.Clone(available), func(id string) bool { _, ok := p.Device(id); return !ok }))
	if err != nil {
		return nil, err
	}
	chosen, err := p.lookup(must)
	if err != nil {
		return nil, err
	}
	for _, d := range chosen {
		if !contains(free, d) {
			return nil, p.refuse(d.ID, "a device that is available")
		}
	}
	if size < len(chosen) || size > len(free) {
		return nil, refusal.New(fmt.Sprintf("resource %q", p.Name()), "allocationSize", size,
			fmt.Sprintf("%d..%d, the devices that must be among them and those available", len(chosen), len(free)))
	}
	if fit := slices.DeleteFunc(slices.Clone(free), func(d Device) bool { return !d.Healthy() && !contains(chosen, d) }); len(fit) >= size {
		free = fit
	}
	for len(chosen) < size {
		rest := without(free, chosen)
		near := p.nearest(rest, chosen, size-len(chosen))
		if p.Resource.Policy == Spread {
			near = near[:1]
		}
		chosen = append(chosen, near[:min(len(near), size-len(chosen))]...)
	}
	ids := make([]string, len(chosen))
	for i, d := range chosen {
		ids[i] = d.ID
	}
	return ids, nil
}

// nearest picks the group of rest from which the next devices come: first the
// NUMA node, then the PF within it.
func (p *Pool) nearest(rest, chosen []Device, want int) []Device {
	if !p.Resource.ExcludeTopology {
		rest = bestGroup(rest, chosen, want, func(d Device) int { return d.NUMANode })
	}
	if p.Resource.Policy == Spread {
		return loosest(rest, chosen)
	}
	return bestGroup(rest, chosen, want, pf)
}

func pf(d Device) vf.Addr { return d.PF }

// loosest returns the devices of the PF to spread to next.
func loosest(rest, chosen []Device) []Device {
	order, groups := split(rest, pf)
	given := map[vf.Addr]int{}
	for _, d := range chosen {
		given[d.PF]++
	}
	best := slices.MinFunc(order, func(a, b vf.Addr) int {
		return cmp.Or(cmp.Compare(given[a], given[b]), cmp.Compare(len(groups[b]), len(groups[a])))
	})
	return groups[best]
}

// split groups list by key, the keys in the order in which they come.
func split[K comparable](list []Device, key func(Device) K) (order []K, groups map[K][]Device) {
	groups = map[K][]Device{}
	for _, d := range list {
		k := key(d)
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], d)
	}
	return order, groups
}

// bestGroup splits rest by key and returns one group: one that chosen has
// devices in, else the smallest that is enough, else the largest.
func bestGroup[K comparable](rest, chosen []Device, want int, key func(Device) K) []Device {
	order, groups := split(rest, key)
	inUse := map[K]int{}
	for _, d := range chosen {
		inUse[key(d)]++
	}
	slices.SortStableFunc(order, func(a, b K) int {
		if c := cmp.Compare(inUse[b], inUse[a]); c != 0 {
			return c
		}
		return bySize(len(groups[a]), len(groups[b]), want)
	})
	return groups[order[0]]
}

// bySize puts sizes that are enough before others, the smallest of them first;
// of those that are not enough the largest comes first.
func bySize(a, b, want int) int {
	switch {
	case a >= want && b >= want:
		return cmp.Compare(a, b)
	case a < want && b < want:
		return cmp.Compare(b, a)
	case a >= want:
		return -1
	}
	return 1
}

// lookup returns the devices with these ids by address, each once.
func (p *Pool) lookup(ids []string) ([]Device, error) {
	var list []Device
	for _, id := range ids {
		d, ok := p.Device(id)
		if !ok {
			return nil, p.refuse(id, p.choice())
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Device) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.ID, b.ID)) })
	return slices.CompactFunc(list, func(a, b Device) bool { return a.ID == b.ID }), nil
}

func contains(list []Device, d Device) bool {
	return slices.ContainsFunc(list, func(e Device) bool { return e.ID == d.ID })
}

func without(list, drop []Device) []Device {
	gone := make(map[string]bool, len(drop))
	for _, d := range drop {
		gone[d.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(d Device) bool { return gone[d.ID] })
}
