package bond

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
)

// attributes are the IFLA_BOND_ attributes (linux/if_link.h) of the
// configuration. The mode comes first: others depend on it.
func attributes(conf netconf.Bond) []netns.Attr {
	out := []netns.Attr{{Type: unix.IFLA_BOND_MODE, Value: []byte{byte(slices.Index(netconf.BondModes[:], conf.Mode))}}}
	if conf.Miimon > 0 {
		out = append(out, netns.Attr{Type: unix.IFLA_BOND_MIIMON, Value: binary.NativeEndian.AppendUint32(nil, uint32(conf.Miimon))})
	}
	for _, o := range []struct {
		attr  uint16
		value *int
	}{
		{unix.IFLA_BOND_FAIL_OVER_MAC, conf.FailOverMAC},
		{unix.IFLA_BOND_ALL_SLAVES_ACTIVE, conf.AllSlavesActive},
		{unix.IFLA_BOND_TLB_DYNAMIC_LB, conf.TLBDynamicLB},
	} {
		if o.value != nil {
			out = append(out, netns.Attr{Type: o.attr, Value: []byte{byte(*o.value)}})
		}
	}
	if conf.XmitHashPolicy != "" {
		out = append(out, netns.Attr{Type: unix.IFLA_BOND_XMIT_HASH_POLICY, Value: []byte{byte(slices.Index(netconf.BondHashPolicies[:], conf.XmitHashPolicy))}})
	}
	return out
}

// enslave gives the links to the bond: each is taken down, which the kernel
// wants, enslaved and set up. Equal hardware addresses are told apart first.
func enslave(ns *os.File, conn *netns.Conn, bond int, conf netconf.Bond, object string) error {
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	seen := map[string]bool{}
	for i, name := range conf.Links {
		l, err := findSlave(conn, conf, i, name, object, "in the pod")
		if err != nil {
			return err
		}
		dev := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}
		if err := h.LinkSetDown(dev); err != nil {
			return fmt.Errorf("set slave %s down: %w", name, err)
		}
		if seen[l.MAC] {
			if err := h.LinkSetHardwareAddr(dev, anyMAC()); err != nil {
				return fmt.Errorf("set MAC of slave %s, whose own another slave has: %w", name, err)
			}
		}
		seen[l.MAC] = true
		if err := h.LinkSetMasterByIndex(dev, bond); err != nil {
			return fmt.Errorf("enslave %s: %w", name, err)
		}
		if err := h.LinkSetUp(dev); err != nil {
			return fmt.Errorf("set slave %s up: %w", name, err)
		}
	}
	return nil
}

// anyMAC returns a random unicast, locally administered address.
func anyMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails (crypto/rand)
	mac[0] = mac[0]&^1 | 2
	return mac
}
