package netns

import (
	"encoding/json"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Route is a route as the kernel described it (RTM_NEWROUTE, rtnetlink(7)).
type Route struct {
	Dst   netip.Prefix
	Via   netip.Addr // the zero Addr for a route to the link itself
	Table int
	// Index is the output link, 0 for a route with several next hops or none.
	Index int

	// header and attrs are what makes the route, for giving it back to the kernel
	// as it was.
	header []byte
	attrs  []Attr
}

// rtaNHID is RTA_NH_ID of linux/rtnetlink.h.
const rtaNHID = 30

// defining are the attributes that make a route; the others tell of its use.
var defining = map[uint16]bool{
	unix.RTA_DST: true, unix.RTA_OIF: true, unix.RTA_GATEWAY: true, unix.RTA_PRIORITY: true, unix.RTA_PREFSRC: true,
	unix.RTA_METRICS: true, unix.RTA_MULTIPATH: true, unix.RTA_TABLE: true, unix.RTA_VIA: true, unix.RTA_PREF: true,
	unix.RTA_ENCAP: true, unix.RTA_ENCAP_TYPE: true, rtaNHID: true,
}

// routes returns the unicast routes of a family, of all tables.
func (c *Conn) routes(family uint8) ([]Route, error) {
	var found []Route
	err := c.dump("routes", func(b *batch) *op {
		found = nil
		o := b.begin("read", "routes", unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		b.buf = append(b.buf, family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		o.reply = func(typ uint16, body []byte) {
			if r, ok := parseRoute(typ, body); ok {
				found = append(found, r.split()...)
			}
		}
		return o
	})
	return found, err
}

// parseRoute reads the body of an RTM_NEWROUTE: a struct rtmsg with attributes.
func parseRoute(typ uint16, body []byte) (Route, bool) {
	if typ != unix.RTM_NEWROUTE || len(body) < unix.SizeofRtMsg || body[7] != unix.RTN_UNICAST ||
		order.Uint32(body[8:])&unix.RTM_F_CLONED != 0 {
		return Route{}, false
	}
	any := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		any = netip.IPv6Unspecified()
	}
	r := Route{Dst: netip.PrefixFrom(any, int(body[1])), Table: int(body[4])}
	r.header = append(r.header, body[:unix.SizeofRtMsg]...)
	// Of the flags only "onlink" is the writer's; the rest is the kernel's.
	order.PutUint32(r.header[8:], order.Uint32(body[8:])&unix.RTNH_F_ONLINK)
	attrs(body[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		if defining[typ] {
			r.attrs = append(r.attrs, Attr{Type: typ, Value: append([]byte(nil), v...)})
		}
		switch {
		case typ == unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(v); ok {
				r.Dst = netip.PrefixFrom(a, int(body[1]))
			}
		case typ == unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(v)
		case typ == unix.RTA_OIF && len(v) == 4:
			r.Index = int(order.Uint32(v))
		case typ == unix.RTA_TABLE && len(v) == 4:
			r.Table = int(order.Uint32(v))
		}
	})
	return r, true
}

// split makes a route of each next hop of r: the kernel joins IPv6 routes of equal
// metric to one, whoever made them.
func (r Route) split() []Route {
	at := slices.IndexFunc(r.attrs, func(a Attr) bool { return a.Type == unix.RTA_MULTIPATH })
	if at < 0 {
		return []Route{r}
	}
	var out []Route
	for hops := r.attrs[at].Value; len(hops) >= unix.SizeofRtNexthop; {
		// struct rtnexthop: length, flags, hops, link; then attributes.
		n := int(order.Uint16(hops))
		if n < unix.SizeofRtNexthop || n > len(hops) {
			break
		}
		one := r
		one.Index = int(order.Uint32(hops[4:]))
		one.attrs = append(slices.Delete(slices.Clone(r.attrs), at, at+1), Attr{Type: unix.RTA_OIF, Value: hops[4:8:8]})
		attrs(hops[unix.SizeofRtNexthop:n], func(typ uint16, v []byte) {
			if defining[typ] {
				one.attrs = append(one.attrs, Attr{Type: typ, Value: v})
			}
			if typ == unix.RTA_GATEWAY {
				one.Via, _ = netip.AddrFromSlice(v)
			}
		})
		out = append(out, one)
		hops = hops[min(align(n), len(hops)):]
	}
	return out
}

// isDefault reports whether r is a default route of the main table.
func (r Route) isDefault() bool { return r.Dst.Bits() == 0 && r.Table == unix.RT_TABLE_MAIN }

// existing adds a message about a route that was read before.
func (b *batch) existing(what string, typ, flags uint16, r Route) *op {
	o := b.begin(what, r.Dst.String(), typ, flags)
	b.buf = append(b.buf, r.header...)
	for _, a := range r.attrs {
		b.bytes(a.Type, a.Value)
	}
	return o
}

// noted is a Route in a note: the kernel's own bytes.
type noted struct {
	Header []byte
	Attrs  []Attr
}

// MarshalJSON keeps the route as the kernel had it.
func (r Route) MarshalJSON() ([]byte, error) { return json.Marshal(noted{r.header, r.attrs}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Route) UnmarshalJSON(data []byte) error {
	var n noted
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	var b batch
	b.existing("note", 0, 0, Route{header: n.Header, attrs: n.Attrs})
	if len(n.Header) == unix.SizeofRtMsg {
		*r, _ = parseRoute(unix.RTM_NEWROUTE, b.buf[unix.SizeofNlMsghdr:])
	}
	return nil
}
