package ipam

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// ownWire is the ipam object of type tendril.
type ownWire struct {
	Type    string      `json:"type"`
	Network string      `json:"network"`
	Ranges  []ownRange  `json:"ranges"`
	Routes  []routeWire `json:"routes"`
	DNS     DNS         `json:"dns"`
	Probe   Probe       `json:"probe"`
	Sticky  bool        `json:"sticky"`
}

// ownRange is a set of one subnet.
type ownRange struct {
	Subnet  string   `json:"subnet"`
	Start   string   `json:"start"`
	End     string   `json:"end"`
	Gateway string   `json:"gateway"`
	Exclude []string `json:"exclude"`
}

// parseOwn reads type tendril. Its keys are strict: an unknown one is refused.
func parseOwn(raw json.RawMessage) (*Cluster, error) {
	var w ownWire
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, decodeRefusal(raw, err)
	}
	if err := CheckSpace("ipam.network", w.Network); err != nil {
		return nil, err
	}
	c := &Cluster{Space: w.Network, DNS: w.DNS, Probe: w.Probe, Sticky: w.Sticky}
	switch c.Probe {
	case "":
		c.Probe = ProbeSuspect
	case ProbeOff, ProbeSuspect, ProbeAlways:
	default:
		return nil, refusal.New("", "ipam.probe", string(w.Probe), "off, suspect, always")
	}
	if len(w.Ranges) == 0 {
		return nil, refusal.New("", "ipam.ranges", "[]", "at least one range")
	}
	for i, one := range w.Ranges {
		r, err := one.parse(fmt.Sprintf("ipam.ranges[%d].", i))
		if err != nil {
			return nil, err
		}
		c.Sets = append(c.Sets, RangeSet{r})
	}
	var err error
	c.Routes, err = parseRoutes(w.Routes)
	return c, err
}

func (w ownRange) parse(field string) (Range, error) {
	p, ok := parsePrefix(w.Subnet)
	if ok && p != p.Masked() {
		return Range{}, refusal.New("", field+"subnet", w.Subnet, "a subnet without host bits: "+p.Masked().String())
	}
	subnet, err := subnetOf(field+"subnet", w.Subnet, p, ok)
	if err != nil {
		return Range{}, err
	}
	r := whole(subnet)
	if err := inside(&r.Start, field+"start", w.Start, subnet); err != nil {
		return Range{}, err
	}
	if err := inside(&r.End, field+"end", w.End, subnet); err != nil {
		return Range{}, err
	}
	if r.End.Less(r.Start) {
		return Range{}, refusal.New("", field+"end", w.End, fmt.Sprintf("an address of %s, not before %s", subnet, r.Start))
	}
	if err := gatewayOf(&r.Gateway, field+"gateway", w.Gateway, subnet.Addr().Is4()); err != nil {
		return Range{}, err
	}
	r.Exclude, err = exclusions(w.Exclude, field+"exclude", subnet.Addr().Is4())
	return r, err
}
