package netns

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Handle opens a netlink handle in ns (nil: the daemon's own), for what Conn
// does not know: rules, bridge ports, slaves. ns must be open only during the
// call. The caller closes the handle and does not keep it for a pod: it holds
// the pod's namespace.
func Handle(ns *os.File) (*netlink.Handle, error) {
	var h *netlink.Handle
	err := Do(ns, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink handle: %w", err)
	}
	return h, nil
}
