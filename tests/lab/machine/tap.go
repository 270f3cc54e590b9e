package machine

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge is the management bridge that every lab has; [Gateway] is its address.
const (
	Bridge  = "lab0"
	gateway = "10.77.0.1"
)

// Gateway is the lab's own address on the management network, in CIDR form.
const Gateway = gateway + "/24"

// openTap makes the tap of machine index in the lab's bridge. It vanishes when
// the file and every copy of it are closed.
func openTap(index int) (*os.File, error) {
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w (machines boot inside a lab only: call lab.Enter first)", Bridge, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	f := os.NewFile(uintptr(fd), "/dev/net/tun")
	name := fmt.Sprintf("tap%d", index)
	if err := joinTap(fd, name, bridge); err != nil {
		return nil, errors.Join(fmt.Errorf("make tap %s: %w", name, err), f.Close())
	}
	return f, nil
}

func joinTap(fd int, name string, bridge netlink.Link) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	tap, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(tap, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(tap)
}
