package netns

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
)

// chunk bounds the messages of one system call, so that their answers fit into
// the socket's receive queue.
const chunk = 64

// Configure applies s to the link with that index and returns what it observed.
// It may be repeated: addresses and routes that are there already are done.
func (c *Conn) Configure(ctx context.Context, index int, s Setup) (Link, error) {
	if err := ctx.Err(); err != nil {
		return Link{}, fmt.Errorf("configure link %d: %w", index, err)
	}
	l, err := c.LinkByIndex(index)
	if err != nil {
		return Link{}, err
	}
	mac, err := parseMAC(s.MAC)
	if err != nil {
		return Link{}, err
	}
	var b batch
	if len(mac) > 0 || s.MTU > 0 {
		b.begin("configure", l.Name, unix.RTM_SETLINK, 0)
		b.info(unix.AF_UNSPEC, index, 0, 0)
		b.hardware(mac, s.MTU)
	}
	return c.setUp(ctx, &b, index, l.Name, s)
}

// Down takes the link down (it keeps its IPv4 addresses, and loses its routes).
func (c *Conn) Down(index int) error {
	var b batch
	b.flags("down", strconv.Itoa(index), index, 0)
	return c.run(&b)
}

// setUp sends what b holds already, followed by the parts of s, and reads the
// link back. IPv6 needs /proc/sys between the link's creation and its first
// address, so it cuts the run in two.
func (c *Conn) setUp(ctx context.Context, b *batch, index int, name string, s Setup) (Link, error) {
	if !hasIPv6(s.Addresses) {
		return c.finish(b, index, name, s)
	}
	if len(b.ops) > 0 {
		if err := c.run(b); err != nil {
			return Link{}, err
		}
	}
	var l Link
	err := Do(c.ns, func() (err error) {
		if err := enableIPv6(name); err != nil {
			return err
		}
		if l, err = c.finish(&batch{}, index, name, s); err != nil {
			return err
		}
		if s.Vouched && s.Up {
			announce(l, s.Addresses)
		}
		return nil
	})
	if err != nil || s.Vouched || !s.Up {
		return l, err
	}
	return l, c.awaitUnique(ctx, l)
}

// finish adds addresses, up and routes to b, sends it and observes. Should b
// outgrow one system call, the rest follows in others.
func (c *Conn) finish(b *batch, index int, name string, s Setup) (Link, error) {
	b.arpNotify(name, index)
	for _, a := range s.Addresses {
		if err := c.flush(b); err != nil {
			return Link{}, err
		}
		b.address(name, index, a, s.Vouched)
	}
	if s.Up {
		b.flags("up", name, index, unix.IFF_UP)
	}
	for _, r := range s.Routes {
		if err := c.flush(b); err != nil {
			return Link{}, err
		}
		b.route(name, index, r)
	}
	return c.one(b, b.get(index))
}

// flush sends b and empties it if it has grown to a full chunk.
func (c *Conn) flush(b *batch) error {
	if len(b.ops) < chunk {
		return nil
	}
	err := c.run(b)
	*b = batch{}
	return err
}

// flags adds the change of IFF_UP to up (IFF_UP or 0).
func (b *batch) flags(what, name string, index int, up uint32) {
	b.begin(what, name, unix.RTM_SETLINK, 0)
	b.info(unix.AF_UNSPEC, index, up, unix.IFF_UP)
}

// devconfARPNotify is IPV4_DEVCONF_ARP_NOTIFY of linux/ip.h: announce the
// addresses by gratuitous ARP when the link comes up or changes its MAC.
const devconfARPNotify = 22

// arpNotify turns the announcement on. It comes before the addresses and those
// before up, because the kernel announces what it has at that moment. A link
// without IPv4 refuses; it has nothing to announce.
func (b *batch) arpNotify(name string, index int) {
	b.begin("configure", name, unix.RTM_SETLINK, 0).pardon = anyErrno
	b.info(unix.AF_UNSPEC, index, 0, 0)
	b.nest(unix.IFLA_AF_SPEC, func() {
		b.nest(unix.AF_INET, func() {
			b.nest(unix.IFLA_INET_CONF, func() { b.u32(devconfARPNotify, 1) })
		})
	})
}

// address adds one address with its on-link prefix (struct ifaddrmsg,
// rtnetlink(7)). IPv4 gets the subnet's broadcast address as ip(8) gives it.
func (b *batch) address(name string, index int, a cni.Address, vouched bool) {
	ip := a.Prefix.Addr().Unmap()
	family, flags := uint8(unix.AF_INET), uint32(0)
	if ip.Is6() {
		family = unix.AF_INET6
		if vouched {
			flags = unix.IFA_F_NODAD
		}
	}
	b.begin("address", a.Prefix.String()+" on "+name, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.buf = append(b.buf, family, uint8(a.Prefix.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	b.buf = order.AppendUint32(b.buf, uint32(index))
	b.bytes(unix.IFA_LOCAL, ip.AsSlice())
	b.bytes(unix.IFA_ADDRESS, ip.AsSlice())
	if bits := a.Prefix.Bits(); ip.Is4() && bits < 31 {
		all := ip.As4()
		for i := bits; i < 32; i++ {
			all[i/8] |= 1 << (7 - i%8)
		}
		b.bytes(unix.IFA_BROADCAST, all[:])
	}
	if flags != 0 {
		b.u32(unix.IFA_FLAGS, flags)
	}
}

// route adds one route through the link (struct rtmsg, rtnetlink(7)). Scope and
// table are what CNI 1.1 leaves to the plugin: a route without gateway reaches
// the link only, and unset is the main table. One that is there already is done.
func (b *batch) route(name string, index int, r cni.Route) {
	dst, via := r.Dst.Addr().Unmap(), r.Via.Unmap()
	family, scope, table := uint8(unix.AF_INET), uint8(unix.RT_SCOPE_UNIVERSE), unix.RT_TABLE_MAIN
	if dst.Is6() {
		family = unix.AF_INET6
	} else if !via.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	if r.Scope != nil {
		scope = uint8(*r.Scope)
	}
	if r.Table != nil {
		table = *r.Table
	}
	what := r.Dst.String()
	if via.IsValid() {
		what += " via " + via.String()
	}
	o := b.begin("route", what+" on "+name, unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
	o.pardon = unix.EEXIST
	// The table is an attribute, which has room for more than the byte here.
	b.buf = append(b.buf, family, uint8(r.Dst.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	b.u32(unix.RTA_TABLE, uint32(table))
	b.bytes(unix.RTA_DST, dst.AsSlice())
	if via.IsValid() {
		b.bytes(unix.RTA_GATEWAY, via.AsSlice())
	}
	b.u32(unix.RTA_OIF, uint32(index))
	if r.Priority != 0 {
		b.u32(unix.RTA_PRIORITY, uint32(r.Priority))
	}
	b.metrics(r)
}

// metrics adds the MTU and maximum segment size of a route where they are given.
func (b *batch) metrics(r cni.Route) {
	if r.MTU == 0 && r.AdvMSS == 0 {
		return
	}
	b.nest(unix.RTA_METRICS, func() {
		if r.MTU != 0 {
			b.u32(unix.RTAX_MTU, uint32(r.MTU))
		}
		if r.AdvMSS != 0 {
			b.u32(unix.RTAX_ADVMSS, uint32(r.AdvMSS))
		}
	})
}
