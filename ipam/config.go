package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// Types that Parse knows.
const (
	TypeStatic      = "static"
	TypeHostLocal   = "host-local"
	TypeWhereabouts = "whereabouts"
	TypeTendril     = "tendril"
)

// types is what Parse knows, for refusals.
const types = TypeTendril + ", " + TypeWhereabouts + ", " + TypeHostLocal + ", " + TypeStatic

// Config is a parsed ipam object. Type says which of the pointers is set.
type Config struct {
	Type      string
	Static    *Static
	HostLocal *HostLocal
	// Cluster is set for tendril and whereabouts.
	Cluster *Cluster
}

// Static is a list of addresses that the configuration itself names. Nothing
// about them is stored: whoever writes one definition for many pods gives them
// all the same address, as with the reference plugin.
type Static struct {
	// Addresses keep their host bits.
	Addresses []Address
	Routes    []Route
	DNS       DNS
}

// HostLocal is addresses handed out on this node: one of every set.
type HostLocal struct {
	Sets   []RangeSet
	Routes []Route
	// ResolvConf is the path of a file in resolv.conf form whose content becomes
	// the lease's DNS, or empty. This package does no I/O: the caller reads it
	// and uses ParseResolvConf.
	ResolvConf string
	// DataDir is where the reference plugin keeps its files, empty for its
	// default. Reserve does not use it: see package hostlocal.
	DataDir string
}

// DefaultDataDir is the reference's directory of networks.
const DefaultDataDir = "/var/lib/cni/networks"

// Dir is DataDir, or the reference's own.
func (h *HostLocal) Dir() string {
	if h.DataDir == "" {
		return DefaultDataDir
	}
	return h.DataDir
}

// wire is the ipam object as it is written, for both types. Go's decoder does
// the rest: keys in any case, unknown ones ignored.
type wire struct {
	Type      string        `json:"type"`
	Addresses []addressWire `json:"addresses"`
	rangeWire
	Ranges     [][]rangeWire `json:"ranges"`
	Routes     []routeWire   `json:"routes"`
	DNS        DNS           `json:"dns"`
	ResolvConf string        `json:"resolvConf"`
	DataDir    string        `json:"dataDir"`
}

type addressWire struct {
	Address string `json:"address"`
	Gateway string `json:"gateway"`
}

type routeWire struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw"`
	MTU      int    `json:"mtu"`
	AdvMSS   int    `json:"advmss"`
	Priority int    `json:"priority"`
	Table    *int   `json:"table"`
	Scope    *int   `json:"scope"`
}

// Parse reads the ipam object of a network configuration: containernetworking
// plugins v1.9, static and host-local; whereabouts v0.9.4; and our own tendril.
// The old form of host-local with subnet, rangeStart, rangeEnd and gateway at the
// top becomes set 0. Every error is a refusal.Refusal without an object, its
// field starting with "ipam".
func Parse(raw json.RawMessage) (Config, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return Config{}, decodeRefusal(raw, err)
	}
	switch kind.Type {
	case TypeWhereabouts:
		c, err := parseWhereabouts(raw)
		return Config{Type: kind.Type, Cluster: c}, err
	case TypeTendril:
		c, err := parseOwn(raw)
		return Config{Type: kind.Type, Cluster: c}, err
	case TypeStatic, TypeHostLocal:
		return parseReference(raw)
	}
	return Config{}, refusal.New("", "ipam.type", kind.Type, types)
}

// parseReference reads the types of the reference plugins.
func parseReference(raw json.RawMessage) (Config, error) {
	var w wire
	if err := json.Unmarshal(raw, &w); err != nil {
		return Config{}, decodeRefusal(raw, err)
	}
	routes, err := parseRoutes(w.Routes)
	if err != nil {
		return Config{}, err
	}
	if w.Type == TypeStatic {
		addresses, err := parseAddresses(w.Addresses)
		return Config{Type: w.Type, Static: &Static{Addresses: addresses, Routes: routes, DNS: w.DNS}}, err
	}
	sets, err := w.sets()
	return Config{Type: w.Type, HostLocal: &HostLocal{Sets: sets, Routes: routes, ResolvConf: w.ResolvConf, DataDir: w.DataDir}}, err
}

// sets reads the range sets, the old form first.
func (w wire) sets() ([]RangeSet, error) {
	all, old := w.Ranges, 0
	if w.Subnet != "" {
		all, old = append([][]rangeWire{{w.rangeWire}}, all...), 1
	}
	if len(all) == 0 {
		return nil, refusal.New("", "ipam.ranges", "[]", "at least one set of ranges, or subnet")
	}
	return parseSets(all, func(set, i int) string {
		switch {
		case set < old:
			return "ipam."
		case i < 0:
			return fmt.Sprintf("ipam.ranges[%d].", set-old)
		}
		return fmt.Sprintf("ipam.ranges[%d][%d].", set-old, i)
	})
}

// parseAddresses reads addresses that a configuration spells out.
func parseAddresses(list []addressWire) ([]Address, error) {
	var out []Address
	seen := map[netip.Addr]bool{}
	for i, a := range list {
		field := fmt.Sprintf("ipam.addresses[%d].", i)
		p, err := netip.ParsePrefix(a.Address)
		if err != nil || p.Addr().Is4In6() {
			return nil, refusal.New("", field+"address", a.Address, "an address with prefix length, in CIDR form")
		}
		if seen[p.Addr()] {
			return nil, refusal.New("", field+"address", a.Address, "an address that is not in the list already")
		}
		seen[p.Addr()] = true
		one := Address{Prefix: p}
		if err := gatewayOf(&one.Gateway, field+"gateway", a.Gateway, p.Addr().Is4()); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// parseRoutes reads the routes, which go into the lease as they are.
func parseRoutes(wire []routeWire) ([]Route, error) {
	var out []Route
	for i, w := range wire {
		r, err := w.parse(fmt.Sprintf("ipam.routes[%d].", i))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (w routeWire) parse(path string) (Route, error) {
	dst, err := netip.ParsePrefix(w.Dst)
	if err != nil || dst.Addr().Is4In6() {
		return Route{}, refusal.New("", path+"dst", w.Dst, "a destination in CIDR form")
	}
	// The kernel answers EINVAL to IPv4 host bits and drops those of IPv6.
	if dst.Addr().Is4() && dst != dst.Masked() {
		return Route{}, refusal.New("", path+"dst", w.Dst, "a destination without host bits: "+dst.Masked().String())
	}
	for _, n := range []struct {
		field string
		value int
	}{{"mtu", w.MTU}, {"advmss", w.AdvMSS}, {"priority", w.Priority}, {"table", or(w.Table)}, {"scope", or(w.Scope)}} {
		most := 1<<32 - 1
		if n.field == "scope" {
			most = 255
		}
		if n.value < 0 || n.value > most {
			return Route{}, refusal.New("", path+n.field, n.value, fmt.Sprintf("0..%d", most))
		}
	}
	r := Route{Dst: dst.Masked(), MTU: w.MTU, AdvMSS: w.AdvMSS, Priority: w.Priority, Table: w.Table, Scope: w.Scope}
	return r, gatewayOf(&r.Via, path+"gw", w.GW, dst.Addr().Is4())
}

func or(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}
