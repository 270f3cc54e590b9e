package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Lease is an address that a server lent, as JSON in the journal.
type Lease struct {
	// Address has the gateway that the server names first, if any.
	Address cni.Address `json:"address"`
	Routes  []cni.Route `json:"routes,omitempty"`
	// Nameservers, Domain and Search are options 6, 15 and 119 (RFC 2132, 3397).
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
	Domain      string       `json:"domain,omitempty"`
	Search      []string     `json:"search,omitempty"`
	// Renew, Rebind and Expire are the ends of the periods of RFC 2131 section
	// 4.4.5.
	Renew  time.Time `json:"renew"`
	Rebind time.Time `json:"rebind"`
	Expire time.Time `json:"expire"`
	// Offer and Ack are the server's messages, for renewing and releasing.
	Offer []byte `json:"offer"`
	Ack   []byte `json:"ack"`
}

// defaultTerm is for servers that do not say how long (as the reference takes it).
const defaultTerm = time.Hour

// A message waits for its answer for attempt, then twice that, and so on, limit in
// all.
const (
	attempt = time.Second
	tries   = 4
	limit   = 10 * time.Second
)

// Acquire asks for a lease on the interface in ns, which is set up if it is down,
// as the reference's link plugins leave it.
func Acquire(ctx context.Context, ns *os.File, r Request) (Lease, error) {
	if err := up(ctx, ns, r.IfName); err != nil {
		return Lease{}, fmt.Errorf("dhcp on %s: %w", r.IfName, err)
	}
	return exchange(ctx, ns, r, func(ctx context.Context, c *nclient4.Client) (*nclient4.Lease, error) {
		return c.Request(ctx, r.modifiers()...)
	})
}

func up(ctx context.Context, ns *os.File, ifName string) error {
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	l, err := conn.LinkByName(ifName)
	if err == nil && !l.Up() {
		_, err = conn.Configure(ctx, l.Index, netns.Setup{Up: true})
	}
	return errors.Join(err, conn.Close())
}

// Renew extends l; the lease that comes back has the address of l.
func Renew(ctx context.Context, ns *os.File, r Request, l Lease) (Lease, error) {
	old, err := l.decode()
	if err != nil {
		return Lease{}, err
	}
	out, err := exchange(ctx, ns, r, func(ctx context.Context, c *nclient4.Client) (*nclient4.Lease, error) {
		return c.Renew(ctx, old, r.modifiers()...)
	})
	if err == nil && out.Address.Prefix != l.Address.Prefix {
		err = fmt.Errorf("renew lease of %s: the server now says %s", l.Address.Prefix, out.Address.Prefix)
	}
	return out, err
}

// Release gives l back. There is no answer to wait for.
func Release(ns *os.File, r Request, l Lease) error {
	old, err := l.decode()
	if err != nil {
		return err
	}
	// A server's kernel drops unicast from 0.0.0.0.
	c, err := client(ns, r.IfName, l.Address.Prefix.Addr())
	if err != nil {
		return fmt.Errorf("release lease of %s: %w", l.Address.Prefix, err)
	}
	err = c.Release(old, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(r.id())))
	return errors.Join(err, c.Close())
}

func exchange(ctx context.Context, ns *os.File, r Request, ask func(context.Context, *nclient4.Client) (*nclient4.Lease, error)) (Lease, error) {
	c, err := client(ns, r.IfName, netip.Addr{})
	if err != nil {
		return Lease{}, fmt.Errorf("dhcp on %s: %w", r.IfName, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	got, err := ask(ctx, c)
	cancel()
	if err = errors.Join(err, c.Close()); err != nil {
		return Lease{}, fmt.Errorf("dhcp on %s: %w", r.IfName, err)
	}
	return decode(got, time.Now(), r.Priority)
}

// client opens a raw socket on the interface, that sends from the given address,
// or from 0.0.0.0 while there is none. The socket stays in ns whatever thread
// uses it.
func client(ns *os.File, ifName string, from netip.Addr) (c *nclient4.Client, err error) {
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(ifName)
		if err != nil {
			return err
		}
		raw, err := packet.Listen(link, packet.Datagram, unix.ETH_P_IP, nil)
		if err != nil {
			return err
		}
		conn := nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{IP: from.AsSlice(), Port: nclient4.ClientPort})
		c, err = nclient4.NewWithConn(conn, link.HardwareAddr, nclient4.WithTimeout(attempt), nclient4.WithRetry(tries))
		return err
	})
	return c, err
}

// decode turns what the server said into a lease.
func decode(l *nclient4.Lease, now time.Time, priority int) (Lease, error) {
	ack := l.ACK
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, bits := ack.SubnetMask().Size()
	if !ok || bits != 32 {
		return Lease{}, refusal.New("DHCP server "+ack.ServerIdentifier().String(), "subnet mask (option 1)", ack.SubnetMask().String(), "an address and its subnet's mask")
	}
	term := ack.IPAddressLeaseTime(defaultTerm)
	out := Lease{
		Address: cni.Address{Prefix: netip.PrefixFrom(ip, ones)},
		Renew:   now.Add(ack.IPAddressRenewalTime(term / 2)),
		Rebind:  now.Add(ack.IPAddressRebindingTime(term * 85 / 100)),
		Expire:  now.Add(term),
		Domain:  ack.DomainName(),
		Offer:   l.Offer.ToBytes(), Ack: ack.ToBytes(),
	}
	if gws := ack.Router(); len(gws) > 0 {
		out.Address.Gateway = addr(gws[0])
	}
	for _, s := range ack.DNS() {
		out.Nameservers = append(out.Nameservers, addr(s))
	}
	if search := ack.DomainSearch(); search != nil {
		out.Search = search.Labels
	}
	out.Routes = routes(ack, out.Address.Gateway, priority)
	return out, nil
}

func (l Lease) decode() (*nclient4.Lease, error) {
	offer, err := dhcpv4.FromBytes(l.Offer)
	if err != nil {
		return nil, fmt.Errorf("read recorded lease of %s: %w", l.Address.Prefix, err)
	}
	ack, err := dhcpv4.FromBytes(l.Ack)
	if err != nil {
		return nil, fmt.Errorf("read recorded lease of %s: %w", l.Address.Prefix, err)
	}
	return &nclient4.Lease{Offer: offer, ACK: ack}, nil
}

// routes are the classless static routes (option 121) alone where there are any
// (RFC 3442), else a default route to the router and the static routes (33).
func routes(ack *dhcpv4.DHCPv4, gateway netip.Addr, priority int) []cni.Route {
	var out []cni.Route
	if classless := ack.ClasslessStaticRoute(); len(classless) > 0 {
		for _, r := range classless {
			ones, _ := r.Dest.Mask.Size()
			one := cni.Route{Dst: netip.PrefixFrom(addr(r.Dest.IP), ones).Masked(), Via: addr(r.Router), Priority: priority}
			if one.Via.IsUnspecified() {
				link := 253 // RT_SCOPE_LINK
				one.Via, one.Scope = netip.Addr{}, &link
			}
			out = append(out, one)
		}
		return out
	}
	for static := ack.Options.Get(dhcpv4.OptionStaticRoutingTable); len(static) >= 8; static = static[8:] {
		ones, _ := net.IP(static[:4]).DefaultMask().Size()
		out = append(out, cni.Route{Dst: netip.PrefixFrom(addr(static[:4]), ones).Masked(), Via: addr(static[4:8]), Priority: priority})
	}
	if gateway.IsValid() {
		out = append(out, cni.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: gateway, Priority: priority})
	}
	return out
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
