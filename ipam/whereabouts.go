package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// whereaboutsWire is what whereabouts v0.9.4 reads of an ipam object and what
// means something here. The keys of its data stores, leases, logs, slices and
// test hooks are accepted and have no meaning.
type whereaboutsWire struct {
	whereaboutsRange
	IPRanges    []whereaboutsRange `json:"ipRanges"`
	Gateway     string             `json:"gateway"`
	NetworkName string             `json:"network_name"`
	Routes      []routeWire        `json:"routes"`
	DNS         DNS                `json:"dns"`
	Addresses   []addressWire      `json:"addresses"`
}

type whereaboutsRange struct {
	Range   string   `json:"range"`
	Start   string   `json:"range_start"`
	End     string   `json:"range_end"`
	Exclude []string `json:"exclude"`
}

func parseWhereabouts(raw json.RawMessage) (*Cluster, error) {
	var w whereaboutsWire
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, decodeRefusal(raw, err)
	}
	if err := CheckSpace("ipam.network_name", w.NetworkName); err != nil {
		return nil, err
	}
	c := &Cluster{Space: w.NetworkName, DNS: w.DNS, Probe: ProbeSuspect}
	var err error
	if c.Sets, err = w.sets(); err != nil {
		return nil, err
	}
	if c.Static, err = parseAddresses(w.Addresses); err != nil {
		return nil, err
	}
	c.Routes, err = parseRoutes(w.Routes)
	return c, err
}

// sets reads the ranges, the one at the top first, each a set of its own.
func (w whereaboutsWire) sets() ([]RangeSet, error) {
	all, top := w.IPRanges, 0
	if w.Range != "" {
		all, top = append([]whereaboutsRange{w.whereaboutsRange}, all...), 1
	}
	if len(all) == 0 {
		return nil, refusal.New("", "ipam.range", "", "a range, here or in ipRanges")
	}
	gateway, err := w.gateway()
	if err != nil {
		return nil, err
	}
	var sets []RangeSet
	for i, one := range all {
		field := "ipam."
		if i >= top {
			field = fmt.Sprintf("ipam.ipRanges[%d].", i-top)
		}
		r, err := one.parse(field)
		if err != nil {
			return nil, err
		}
		// One gateway is for its family; whereabouts puts it on the other as well.
		if gateway.IsValid() && gateway.Is4() == r.Start.Is4() {
			r.Gateway = gateway
		}
		sets = append(sets, RangeSet{r})
	}
	return sets, nil
}

func (w whereaboutsWire) gateway() (netip.Addr, error) {
	if w.Gateway == "" {
		return netip.Addr{}, nil
	}
	a, ok := parseSloppy(w.Gateway)
	if !ok {
		return a, refusal.New("", "ipam.gateway", w.Gateway, "an IP address")
	}
	return a, nil
}

// parse reads "subnet" with range_start and range_end, or "start-end/length",
// whose own ends win.
func (w whereaboutsRange) parse(field string) (Range, error) {
	text := w.Range
	if first, rest, ok := strings.Cut(w.Range, "-"); ok {
		last, _, _ := strings.Cut(rest, "/")
		text, w.Start, w.End = rest, strings.TrimSpace(first), strings.TrimSpace(last)
	}
	p, ok := parsePrefix(strings.TrimSpace(text))
	subnet, err := subnetOf(field+"range", w.Range, p, ok)
	if err != nil {
		return Range{}, err
	}
	start, end := field+"range_start", field+"range_end"
	if text != w.Range {
		start, end = field+"range", field+"range"
	}
	r := whole(subnet)
	if err := inside(&r.Start, start, w.Start, subnet); err != nil {
		return Range{}, err
	}
	if err := inside(&r.End, end, w.End, subnet); err != nil {
		return Range{}, err
	}
	if r.End.Less(r.Start) {
		return Range{}, refusal.New("", end, w.End, fmt.Sprintf("an address of %s, not before %s", subnet, r.Start))
	}
	r.Exclude, err = exclusions(w.Exclude, field+"exclude", subnet.Addr().Is4())
	return r, err
}
