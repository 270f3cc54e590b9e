package validate

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
)

// addresses judges the ipam object of a plugin, where its type is known.
func (l *list) addresses(path string, p netconf.Plugin) {
	raw, kind, err := netconf.ParseIPAM(p)
	if err != nil {
		l.refuse(BadAddresses, path, err)
		return
	}
	if !slices.Contains([]string{ipam.TypeStatic, ipam.TypeHostLocal, ipam.TypeWhereabouts, ipam.TypeTendril}, kind) {
		return
	}
	c, err := ipam.Parse(raw)
	switch {
	case err != nil && kind == ipam.TypeWhereabouts && unwrap(err).Field == "ipam.range" && field[string](raw, "range") == "" && !has(raw, "ipRanges"):
		l.add(BadAddresses, Warn, path+"ipam.range", "", "a range, here or in ipRanges; the reference plugin also takes one from a file of the node")
	case err != nil:
		l.refuse(BadAddresses, path, err)
	case c.HostLocal != nil:
		l.gateways(path, c.HostLocal)
	case c.Cluster != nil:
		l.exclusions(path+"ipam.", raw, c.Cluster)
	}
}

// rangeText is what is written of a range of whereabouts.
type rangeText struct {
	Range   string   `json:"range"`
	Exclude []string `json:"exclude"`

	path string
}

// rangeTexts returns the ranges as they are written, in the order of the sets
// that ipam.Parse makes of them; nil for types that write them otherwise.
func rangeTexts(raw json.RawMessage) []rangeText {
	var w struct {
		rangeText
		IPRanges []rangeText `json:"ipRanges"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return nil
	}
	var out []rangeText
	if w.Range != "" {
		out = append(out, w.rangeText)
	}
	for i, r := range w.IPRanges {
		r.path = fmt.Sprintf("ipRanges[%d].", i)
		out = append(out, r)
	}
	return out
}

// exclusions judges ranges of which nothing is left, and says what has no
// effect: host bits, and exclusions of other addresses, are documented usage.
func (l *list) exclusions(path string, raw json.RawMessage, c *ipam.Cluster) {
	texts := rangeTexts(raw)
	for i, set := range c.Sets {
		at, text := path, rangeText{}
		if len(texts) == len(c.Sets) {
			at, text = path+texts[i].path, texts[i]
		}
		for _, r := range set {
			l.excluded(at, text, r)
		}
		if p, err := netip.ParsePrefix(strings.TrimSpace(text.Range)); err == nil && p != p.Masked() {
			l.add(BadAddresses, Warn, at+"range", text.Range, "a range without host bits, "+p.Masked().String()+": those given are ignored")
		}
	}
}

func (l *list) excluded(path string, text rangeText, r ipam.Range) {
	whole := Span{r.Start, r.End}
	var out []Span
	for i, x := range r.Exclude {
		if s := spanOf(x); s.overlaps(whole) {
			out = append(out, s)
		} else {
			l.add(BadAddresses, Warn, fmt.Sprintf("%sexclude[%d]", path, i), x.String(), "addresses of "+whole.String())
		}
	}
	if covered(whole, out) {
		l.add(BadAddresses, Deny, path+"exclude", strings.Join(text.Exclude, ", "), "exclusions that leave an address of "+whole.String())
	}
}

// covered reports whether the exclusions leave nothing of s.
func covered(s Span, out []Span) bool {
	slices.SortFunc(out, func(a, b Span) int { return a.From.Compare(b.From) })
	next := s.From
	for _, x := range out {
		if next.Less(x.From) {
			return false
		}
		if !x.To.Less(next) {
			next = x.To.Next()
		}
		if !next.IsValid() || s.To.Less(next) {
			return true
		}
	}
	return false
}

// gateways judges gateways outside of their subnet. The reference plugin takes
// them, but a route through one is unreachable: where the configuration has such
// a route, every attachment would fail.
func (l *list) gateways(path string, h *ipam.HostLocal) {
	for i, set := range h.Sets {
		for j, r := range set {
			if r.Subnet.Contains(r.Gateway) {
				continue
			}
			level := Warn
			for _, route := range h.Routes {
				if !route.Via.IsValid() && route.Dst.Addr().Is4() == r.Gateway.Is4() {
					level = Deny
				}
			}
			l.add(BadAddresses, level, fmt.Sprintf("%sipam.ranges[%d][%d].gateway", path, i, j), r.Gateway.String(), "an address of "+r.Subnet.String())
		}
	}
}

// rangesOf returns the addresses that an ipam object hands out, nil when that is
// not known.
func rangesOf(raw json.RawMessage, kind string) []Span {
	if kind != ipam.TypeHostLocal && kind != ipam.TypeWhereabouts && kind != ipam.TypeTendril {
		return nil
	}
	c, err := ipam.Parse(raw)
	if err != nil {
		return nil
	}
	var sets []ipam.RangeSet
	if c.HostLocal != nil {
		sets = c.HostLocal.Sets
	} else if c.Cluster != nil {
		sets = c.Cluster.Sets
	}
	var out []Span
	for _, set := range sets {
		for _, r := range set {
			out = append(out, Span{r.Start, r.End})
		}
	}
	return out
}

// overlaps judges whether the addresses are also used by another network of the
// same wire, by the cluster or by a node. It never denies: overlapping networks
// that do not meet are an everyday thing.
func (l *list) overlaps(s *Summary, f Facts) {
	for _, r := range s.Ranges {
		for _, o := range f.summaries() {
			if o.Ref() == s.Ref() || o.Domain == s.Domain || !o.sameSegment(s) {
				continue
			}
			for _, other := range o.Ranges {
				if r.overlaps(other) {
					l.add(Overlap, Warn, "spec.config.ipam", r.String(), fmt.Sprintf("addresses that network %s does not hand out on the same wire: %s", o.Ref(), other))
				}
			}
		}
		l.clusterNets(r, "pod network", f.PodNets)
		l.clusterNets(r, "service network", f.ServiceNets)
		for _, a := range f.NodeAddrs {
			if r.Contains(a) {
				l.add(Overlap, Warn, "spec.config.ipam", r.String(), "addresses without that of a node: "+a.String())
				break
			}
		}
	}
}

func (l *list) clusterNets(r Span, what string, nets []netip.Prefix) {
	for _, p := range nets {
		if r.overlaps(spanOf(p)) {
			l.add(Overlap, Warn, "spec.config.ipam", r.String(), "addresses outside of the "+what+" "+p.String())
			return
		}
	}
}
