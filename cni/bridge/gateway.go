package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns/stacked"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// Complete adds what the configuration makes of the leased addresses: a gateway
// for each that has none, with isGateway, and one default route for each family,
// with isDefaultGateway. It is pure, and doing it twice is doing it once.
func Complete(a cni.Attachment, conf netconf.Bridge) cni.Attachment {
	a.Addresses, a.Routes = slices.Clone(a.Addresses), slices.Clone(a.Routes)
	for i, ad := range a.Addresses {
		if conf.Gateway && !ad.Gateway.IsValid() {
			a.Addresses[i].Gateway = ad.Prefix.Masked().Addr().Next()
		}
		is4 := ad.Prefix.Addr().Is4()
		if conf.DefaultGateway && !slices.ContainsFunc(a.Routes, func(r cni.Route) bool {
			return r.Dst.Bits() == 0 && r.Dst.Addr().Is4() == is4 && r.Via.IsValid()
		}) {
			any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if !is4 {
				any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			a.Routes = append(a.Routes, cni.Route{Dst: any, Via: a.Addresses[i].Gateway})
		}
	}
	return a
}

// Completed is Complete with the attachment's own configuration. Whoever attaches
// does it once the addresses are known, and records what comes out: Attach and
// Check take the addresses and routes as they are.
func (d *Driver) Completed(a cni.Attachment) (cni.Attachment, error) {
	conf, err := parse(a)
	if err != nil {
		return a, err
	}
	return Complete(a, conf), nil
}

// gateways puts the gateways on the bridge, or on its VLAN device, and turns
// forwarding on.
func gateways(h *netlink.Handle, br *netlink.Bridge, conf netconf.Bridge, a cni.Attachment) error {
	if !conf.Gateway || len(a.Addresses) == 0 {
		return nil
	}
	var on netlink.Link = br
	if conf.VLAN != 0 {
		var err error
		if on, err = ensureVLAN(h, br, conf); err != nil {
			return err
		}
	}
	for _, ad := range a.Addresses {
		p := netip.PrefixFrom(ad.Gateway, ad.Prefix.Bits())
		if err := ensureAddress(h, on, p, conf, stacked.Object(a)); err != nil {
			return err
		}
		if err := forward(ad.Gateway.Is4()); err != nil {
			return err
		}
	}
	return nil
}

// ensureAddress gives the link the gateway p. One of another subnet is in the
// way for IPv4; for IPv6 only one whose subnet overlaps.
func ensureAddress(h *netlink.Handle, l netlink.Link, p netip.Prefix, conf netconf.Bridge, object string) error {
	family := netlink.FAMILY_V6
	if p.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	have, err := h.AddrList(l, family)
	if err != nil {
		return fmt.Errorf("read addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range have {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		q := netip.PrefixFrom(ip.Unmap(), ones)
		switch {
		case !ok || q == p:
			if ok {
				return nil
			}
		case q.Addr().IsLinkLocalUnicast() && !p.Addr().IsLinkLocalUnicast():
		case !p.Addr().Is4() && !p.Overlaps(q):
		case !conf.ForceAddress:
			return refusal.New(object, "ipam gateway", p.String(), fmt.Sprintf("%s, which %s has already; or forceAddress: true", q, l.Attrs().Name))
		default:
			if err := h.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("delete address %s of %s: %w", q, l.Attrs().Name, err)
			}
		}
	}
	add := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if !p.Addr().Is4() {
		add.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(l, add); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s to %s: %w", p, l.Attrs().Name, err)
	}
	return nil
}

// forward turns forwarding on for one family, on the host.
func forward(is4 bool) error {
	path := "/proc/sys/net/ipv6/conf/all/forwarding"
	if is4 {
		path = "/proc/sys/net/ipv4/ip_forward"
	}
	return sysctl(path, "1")
}

// sysctl writes value unless it is there: each write of forwarding walks all
// links of the host.
func sysctl(path, value string) error {
	if now, err := os.ReadFile(path); err == nil && len(now) == len(value)+1 && string(now[:len(value)]) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set kernel parameter: %w", err)
	}
	return nil
}
