package cluster

import (
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/tests/lab/machine"
)

// routes are the commands by which node n reaches the pods of the others.
func (c *Cluster) routes(n int) string {
	var commands []string
	for other := 1; other <= c.Nodes(); other++ {
		if other != n {
			commands = append(commands, fmt.Sprintf("ip route replace %s via %s", PodCIDR(other), machine.Addr(other)))
		}
	}
	return strings.Join(commands, "\n")
}

// routeToPods lets this side reach pods: the API server calls webhooks in them, and tests may.
func (c *Cluster) routeToPods() error {
	for n := 1; n <= c.Nodes(); n++ {
		cidr := PodCIDR(n)
		err := netlink.RouteReplace(&netlink.Route{
			Dst: &net.IPNet{IP: cidr.Addr().AsSlice(), Mask: net.CIDRMask(cidr.Bits(), 32)},
			Gw:  machine.Addr(n).AsSlice(),
		})
		if err != nil {
			return fmt.Errorf("route %s to %s: %w", cidr, NodeName(n), err)
		}
	}
	return nil
}
