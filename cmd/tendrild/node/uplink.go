package node

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/vf"
)

// hostOwns says what the host itself uses a PF for, or "" (invariant 7: the host
// keeps its uplink). What cannot be read counts as used.
func hostOwns(pf vf.PF) string {
	if pf.Netdev == "" {
		return ""
	}
	link, err := netlink.LinkByName(pf.Netdev)
	if err != nil {
		return fmt.Sprintf("its device %s cannot be read: %v", pf.Netdev, err)
	}
	if master := link.Attrs().MasterIndex; master != 0 {
		return fmt.Sprintf("%s has a master (ifindex %d)", pf.Netdev, master)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Sprintf("addresses of %s cannot be read: %v", pf.Netdev, err)
	}
	for _, a := range addrs {
		// Every device that is up has a link-local address; it is nobody's uplink.
		if !a.IP.IsLinkLocalUnicast() {
			return fmt.Sprintf("%s carries the address %s", pf.Netdev, a.IPNet)
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Sprintf("routes of %s cannot be read: %v", pf.Netdev, err)
	}
	if len(routes) > 0 {
		return fmt.Sprintf("%s carries the route %s", pf.Netdev, routes[0])
	}
	return ""
}
