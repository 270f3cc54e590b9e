package netns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
)

// ErrDuplicate means that another host on the network answered for an address
// (duplicate address detection, RFC 4862 section 5.4).
var ErrDuplicate = errors.New("address is in use by another host on the network")

// DAD takes one second with the kernel's defaults (dad_transmits 1, retrans
// timer 1 s) plus a random delay of up to one more.
const (
	dadLimit = 5 * time.Second
	dadPoll  = 20 * time.Millisecond
)

// enableIPv6 makes the calling thread's namespace accept IPv6 addresses on the
// link name: runtimes disable IPv6 by default in pods that they know only IPv4
// for. The addresses shall outlive a down, and a changed MAC is to be announced.
// The kernel has no netlink attributes for these (kernel doc, ip-sysctl).
func enableIPv6(name string) error {
	for _, s := range []struct{ link, key, value string }{
		{"lo", "disable_ipv6", "0"},
		{name, "disable_ipv6", "0"},
		{name, "keep_addr_on_down", "1"},
		{name, "ndisc_notify", "1"},
	} {
		if err := setSysctl(filepath.Join("/proc/sys/net/ipv6/conf", s.link, s.key), s.value); err != nil {
			return fmt.Errorf("enable IPv6 on %s: %w", name, err)
		}
	}
	return nil
}

// setSysctl writes value unless it is there already: reading is allowed where
// /proc/sys is mounted read-only, and a pod that has the values needs no more.
func setSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
		now, readErr := os.ReadFile(path)
		if readErr == nil && len(now) > 0 && string(now[:len(now)-1]) == value {
			return nil
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// awaitUnique waits until duplicate address detection of l's addresses is over.
// A link without carrier runs none yet and is not waited for.
func (c *Conn) awaitUnique(ctx context.Context, l Link) error {
	if !l.Carrier() {
		return nil
	}
	deadline := time.Now().Add(dadLimit)
	for {
		tentative, failed, err := c.tentative(l.Index)
		switch {
		case err != nil:
			return err
		case failed.IsValid():
			return fmt.Errorf("address %s on %s: %w", failed, l.Name, ErrDuplicate)
		case !tentative.IsValid():
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("address %s on %s: duplicate address detection: %w", tentative, l.Name, os.ErrDeadlineExceeded)
		}
		if err := pause(ctx, dadPoll); err != nil {
			return fmt.Errorf("address %s on %s: %w", tentative, l.Name, err)
		}
	}
}

// tentative returns one address of the link that is still being checked and one
// that turned out to be someone else's. Link-local ones, which no one asked for,
// do not count.
func (c *Conn) tentative(index int) (checking, failed netip.Addr, err error) {
	err = c.dump("addresses", func(b *batch) *op {
		checking, failed = netip.Addr{}, netip.Addr{}
		o := b.begin("read", "addresses", unix.RTM_GETADDR, unix.NLM_F_DUMP)
		b.buf = append(b.buf, unix.AF_INET6, 0, 0, 0, 0, 0, 0, 0)
		o.reply = func(typ uint16, body []byte) {
			if typ != unix.RTM_NEWADDR || len(body) < unix.SizeofIfAddrmsg || int(order.Uint32(body[4:])) != index {
				return
			}
			ip, flags := parseAddress(body)
			switch {
			case ip.IsLinkLocalUnicast():
			case flags&unix.IFA_F_DADFAILED != 0:
				failed = ip
			case flags&unix.IFA_F_TENTATIVE != 0:
				checking = ip
			}
		}
		return o
	})
	return checking, failed, err
}

func parseAddress(body []byte) (ip netip.Addr, flags uint32) {
	flags = uint32(body[2])
	attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch {
		case typ == unix.IFA_ADDRESS:
			ip, _ = netip.AddrFromSlice(v)
		case typ == unix.IFA_FLAGS && len(v) == 4:
			flags = order.Uint32(v)
		}
	})
	return ip, flags
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	select {
	case <-ctx.Done():
		t.Stop()
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// announce sends an unsolicited neighbour advertisement (RFC 4861 section 7.2.6)
// for each IPv6 address, from the calling thread's namespace. The kernel does so
// itself after duplicate address detection, which vouched addresses skip, and on
// newer kernels when the link comes up, but not for one that is up already.
// It is best effort: neighbours without it learn the new MAC a little later.
func announce(l Link, addresses []cni.Address) {
	mac, err := parseMAC(l.MAC)
	if err != nil || len(mac) != 6 || l.Flags&unix.IFF_NOARP != 0 {
		return
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, l.Index)
	for _, a := range addresses {
		if ip := a.Prefix.Addr(); is6(ip) {
			advertise(fd, l.Index, ip, mac)
		}
	}
	_ = unix.Close(fd)
}

// advertise sends one advertisement to all nodes, from the address itself.
func advertise(fd, index int, ip netip.Addr, mac []byte) {
	const (
		neighbourAdvertisement = 136  // RFC 4861 section 4.4
		override               = 0x20 // replace what is cached
		targetLinkLayer        = 2    // section 4.6.1
	)
	msg := append([]byte{neighbourAdvertisement, 0, 0, 0, override, 0, 0, 0}, ip.AsSlice()...)
	msg = append(append(msg, targetLinkLayer, 1), mac...)
	// The source is chosen per message.
	from := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: ip.As16(), Ifindex: uint32(index)})
	to := &unix.SockaddrInet6{ZoneId: uint32(index), Addr: netip.IPv6LinkLocalAllNodes().As16()}
	_ = unix.Sendmsg(fd, msg, from, to, 0)
}
