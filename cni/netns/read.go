package netns

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNotFound means that there is no such link in the namespace of the Conn.
var ErrNotFound = errors.New("no such link")

// dumpTries bounds the repeats of a dump that changes interrupted.
const dumpTries = 20

// LinkByName returns the link with that name or alternative name. ErrNotFound if
// there is none. It asks for one link and never dumps.
func (c *Conn) LinkByName(name string) (Link, error) {
	var b batch
	o := b.begin("read", "link "+name, unix.RTM_GETLINK, 0)
	b.info(unix.AF_UNSPEC, 0, 0, 0)
	if len(name) < unix.IFNAMSIZ {
		b.str(unix.IFLA_IFNAME, name)
	} else {
		b.str(unix.IFLA_ALT_IFNAME, name)
	}
	skipStats(&b)
	return c.one(&b, o)
}

// LinkByIndex returns the link with that index. ErrNotFound if there is none.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	var b batch
	return c.one(&b, b.get(index))
}

// get adds the reading of one link by its index.
func (b *batch) get(index int) *op {
	o := b.begin("read", "link "+strconv.Itoa(index), unix.RTM_GETLINK, 0)
	b.info(unix.AF_UNSPEC, index, 0, 0)
	skipStats(b)
	return o
}

// extSkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: the counters,
// half of the answer, are left out.
const extSkipStats = 1 << 3

func skipStats(b *batch) { b.u32(unix.IFLA_EXT_MASK, extSkipStats) }

func (c *Conn) one(b *batch, o *op) (Link, error) {
	var l Link
	o.reply = func(typ uint16, body []byte) { l, _ = parseLink(typ, body) }
	err := c.run(b)
	switch {
	case err == error(o.err) && errors.Is(err, unix.ENODEV):
		return Link{}, fmt.Errorf("read %s: %w", o.object, ErrNotFound)
	case err != nil:
		return Link{}, err
	}
	return l, nil
}

// Links returns all links of the namespace, in the kernel's order. A dump that
// was interrupted by a change is repeated, so the answer is one moment's.
func (c *Conn) Links() ([]Link, error) { return c.links("", here) }

// LinksOfKind returns the links of one kind ("ipvlan").
func (c *Conn) LinksOfKind(kind string) ([]Link, error) { return c.links(kind, here) }

// here stands for c's own namespace where the id of another is accepted.
const here = -1

// links dumps the links of the namespace that c's knows as nsid.
func (c *Conn) links(kind string, nsid int) ([]Link, error) {
	var found []Link
	err := c.dump("links", func(b *batch) *op {
		found = nil
		o := b.begin("read", "links", unix.RTM_GETLINK, unix.NLM_F_DUMP)
		b.info(unix.AF_UNSPEC, 0, 0, 0)
		skipStats(b)
		if nsid != here {
			b.u32(unix.IFLA_TARGET_NETNSID, uint32(nsid))
		}
		if kind != "" {
			b.nest(unix.IFLA_LINKINFO, func() { b.str(unix.IFLA_INFO_KIND, kind) })
		}
		o.reply = func(typ uint16, body []byte) {
			// A kernel without the driver ignores the filter.
			if l, ok := parseLink(typ, body); ok && (kind == "" || l.Kind == kind) {
				found = append(found, l)
			}
		}
		return o
	})
	return found, err
}

// dump runs the dump that request adds to a batch until none of it was
// interrupted (NLM_F_DUMP_INTR: something changed between two pieces of it).
func (c *Conn) dump(what string, request func(*batch) *op) error {
	for range dumpTries {
		var b batch
		o := request(&b)
		err := c.run(&b)
		if !o.interrupted || err != nil {
			return err
		}
	}
	return fmt.Errorf("read %s: interrupted by changes %d times: %w", what, dumpTries, unix.EINTR)
}

// DefaultRouteLink returns the index of the link that the first default route
// leaves through, IPv4 before IPv6, main table only. ErrNotFound if there is no
// default route.
func (c *Conn) DefaultRouteLink() (int, error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		index := 0
		err := c.dump("routes", func(b *batch) *op {
			index = 0
			o := b.begin("read", "routes", unix.RTM_GETROUTE, unix.NLM_F_DUMP)
			b.buf = append(b.buf, family, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0)
			o.reply = func(typ uint16, body []byte) {
				if index == 0 && typ == unix.RTM_NEWROUTE {
					index = defaultRoute(body)
				}
			}
			return o
		})
		if err != nil {
			return 0, err
		}
		if index != 0 {
			return index, nil
		}
	}
	return 0, fmt.Errorf("read default route: %w", ErrNotFound)
}

// defaultRoute returns the output link of a struct rtmsg with attributes, or 0
// when it is not a unicast default route of the main table.
func defaultRoute(body []byte) int {
	if len(body) < unix.SizeofRtMsg || body[1] != 0 || body[4] != unix.RT_TABLE_MAIN || body[7] != unix.RTN_UNICAST {
		return 0
	}
	index := 0
	attrs(body[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch {
		case typ == unix.RTA_OIF && len(v) >= 4:
			index = int(order.Uint32(v))
		case typ == unix.RTA_MULTIPATH && len(v) >= unix.SizeofRtNexthop && index == 0:
			// struct rtnexthop: len, flags, hops, ifindex.
			index = int(order.Uint32(v[4:]))
		}
	})
	return index
}

// parseLink reads the body of an RTM_NEWLINK.
func parseLink(typ uint16, body []byte) (Link, bool) {
	if typ != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg {
		return Link{}, false
	}
	l := Link{
		Index:      int(int32(order.Uint32(body[4:]))),
		Type:       order.Uint16(body[2:]),
		Flags:      order.Uint32(body[8:]),
		ParentNSID: -1,
	}
	attrs(body[unix.SizeofIfInfomsg:], l.attr)
	return l, true
}

func (l *Link) attr(typ uint16, v []byte) {
	switch typ {
	case unix.IFLA_IFNAME:
		l.Name = text(v)
	case unix.IFLA_IFALIAS:
		l.Alias = text(v)
	case unix.IFLA_ADDRESS:
		l.MAC = net.HardwareAddr(v).String()
	case unix.IFLA_PERM_ADDRESS:
		l.PermMAC = net.HardwareAddr(v).String()
	case unix.IFLA_PARENT_DEV_NAME:
		l.ParentDev = text(v)
	case unix.IFLA_PARENT_DEV_BUS_NAME:
		l.ParentBus = text(v)
	case unix.IFLA_OPERSTATE:
		if len(v) == 1 {
			l.OperState = v[0]
		}
	case unix.IFLA_PROP_LIST:
		attrs(v, func(t uint16, v []byte) {
			if t == unix.IFLA_ALT_IFNAME {
				l.AltNames = append(l.AltNames, text(v))
			}
		})
	case unix.IFLA_LINKINFO:
		attrs(v, l.info)
	default:
		if len(v) == 4 {
			l.number(typ, order.Uint32(v))
		}
	}
}

func (l *Link) number(typ uint16, v uint32) {
	switch typ {
	case unix.IFLA_MTU:
		l.MTU = int(v)
	case unix.IFLA_GROUP:
		l.Group = v
	case unix.IFLA_LINK:
		l.Parent = int(v)
	case unix.IFLA_LINK_NETNSID:
		l.ParentNSID = int(int32(v))
	case unix.IFLA_MASTER:
		l.Master = int(v)
	}
}

func (l *Link) info(typ uint16, v []byte) {
	switch typ {
	case unix.IFLA_INFO_KIND:
		l.Kind = text(v)
	case unix.IFLA_INFO_SLAVE_KIND:
		l.SlaveKind = text(v)
	case unix.IFLA_INFO_DATA:
		// The receive buffer is used again; Data outlives it.
		attrs(v, func(t uint16, v []byte) {
			l.Data = append(l.Data, Attr{Type: t, Value: append([]byte(nil), v...)})
		})
	}
}

// Up reports whether the link is administratively up (IFF_UP).
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Carrier reports whether the link has a carrier (IFF_LOWER_UP).
func (l Link) Carrier() bool { return l.Flags&unix.IFF_LOWER_UP != 0 }
