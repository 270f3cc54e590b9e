package validate

import (
	"encoding/json"
	"net/netip"
	"strings"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/ipam"
)

// Summary is what definitions are compared by. It is made once for each version
// of a definition, since a cluster can have thousands.
type Summary struct {
	Namespace, Name string
	// Network is the name in the configuration, else the definition's.
	Network string
	// Domain is within what an address is given once: the address space of
	// cluster-wide types, else Network.
	Domain string
	// Shared says that the addresses are of the cluster-wide Space.
	Shared bool
	Space  string
	// Type, Master and VLAN are those of the first plugin; Resource is the
	// definition's.
	Type, Master, Resource string
	VLAN                   int64
	// Ranges are the addresses that pods get, both ends included.
	Ranges []Span
}

// Span is a run of addresses of one family, both ends included.
type Span struct{ From, To netip.Addr }

// String returns "from-to".
func (s Span) String() string { return s.From.String() + "-" + s.To.String() }

func (s Span) overlaps(o Span) bool {
	return s.From.Is4() == o.From.Is4() && s.From.Compare(o.To) <= 0 && o.From.Compare(s.To) <= 0
}

// Contains reports whether a is one of them.
func (s Span) Contains(a netip.Addr) bool { return s.overlaps(Span{a, a}) }

// spanOf is all addresses of p.
func spanOf(p netip.Prefix) Span {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	to, _ := netip.AddrFromSlice(last)
	return Span{p.Addr(), to}
}

// Summarize returns the summary of d, nil when its configuration is empty or
// cannot be read.
func Summarize(d *nad.NetworkAttachmentDefinition) *Summary {
	n, err := netconf.ParseNetwork("", []byte(d.Spec.Config), d.Name)
	if err != nil {
		return nil
	}
	return summarize(d, n)
}

func summarize(d *nad.NetworkAttachmentDefinition, n netconf.Network) *Summary {
	p := n.Plugins[0]
	s := &Summary{Namespace: d.Namespace, Name: d.Name, Network: n.Name, Domain: n.Name, Type: p.Type}
	if resources := ResourcesOf(d, nil); len(resources) > 0 {
		s.Resource = resources[0]
	}
	s.Master = field[string](p.Raw, "master")
	if s.Master == "" {
		s.Master = field[string](p.Raw, "bridge")
	}
	if s.VLAN = field[int64](p.Raw, "vlan"); s.VLAN == 0 {
		s.VLAN = field[int64](p.Raw, "vlanId")
	}
	raw, kind, _ := netconf.ParseIPAM(p)
	if c, err := ipam.Parse(raw); err == nil && c.Cluster != nil {
		s.Domain, s.Shared, s.Space = "space "+c.Cluster.Space, true, c.Cluster.Space
	}
	s.Ranges = rangesOf(raw, kind)
	return s
}

// Ref returns "namespace/name".
func (s *Summary) Ref() string { return s.Namespace + "/" + s.Name }

// sameSegment reports whether both networks reach the same wire, as far as their
// definitions tell.
func (s *Summary) sameSegment(o *Summary) bool {
	return s.VLAN == o.VLAN && s.Master == o.Master && s.Resource == o.Resource
}

// field returns a field of a JSON object by its name in any case, zero when it
// is absent or of another type: the parsers have the last word on both.
func field[T any](raw json.RawMessage, name string) T {
	var fields map[string]json.RawMessage
	var out, zero T
	if json.Unmarshal(raw, &fields) != nil {
		return zero
	}
	for key, v := range fields {
		if strings.EqualFold(key, name) && json.Unmarshal(v, &out) == nil {
			return out
		}
	}
	return zero
}

func has(raw json.RawMessage, name string) bool {
	v := field[json.RawMessage](raw, name)
	return len(v) > 0 && string(v) != "null"
}
