package sriov

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

// announcement is how long a MAC takes at most from the VF's device to its PF.
const announcement = 500 * time.Millisecond

// markPrefix is what all marks of package netns begin with.
const markPrefix = "tendril "

// markOf is the alias by which the VF's device says whose it is.
func markOf(r cni.Record) string {
	a := r.Attachment
	return netns.Mark(a.ContainerID, a.Network, a.IfName)
}

// marked reports whether some attachment holds the device.
func marked(l netns.Link) bool { return strings.HasPrefix(l.Alias, markPrefix) }

// spareName is the name of a VF whose own name is taken on the host. It is made
// of the PCI address and so no other VF wants it.
func spareName(a vf.Addr) string {
	return "vf" + strings.NewReplacer(":", "", ".", "").Replace(a.String())
}

// netdev is the VF's network device while it is on the host, by its index: names
// may change at any time.
type netdev struct {
	conn  *netns.Conn
	index int
}

func (n netdev) device() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: n.index}}
}

// NetdevMAC implements ownMAC.
func (n netdev) NetdevMAC() (string, error) {
	l, err := n.conn.LinkByIndex(n.index)
	return l.MAC, err
}

// SetMAC implements ownMAC. Errors carry the errno of the VF's driver.
func (n netdev) SetMAC(mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("set MAC of the VF's device: %w", err)
	}
	return netlink.LinkSetHardwareAddr(n.device(), hw)
}

func (n netdev) down(l netns.Link) error {
	if !l.Up() {
		return nil
	}
	return n.conn.Down(n.index)
}

func (n netdev) setUp() error {
	if err := netlink.LinkSetUp(n.device()); err != nil {
		return fmt.Errorf("set link %d up: %w", n.index, err)
	}
	return nil
}

func (n netdev) setAlias(text string) error {
	if err := netlink.LinkSetAlias(n.device(), text); err != nil {
		return fmt.Errorf("set alias of link %d: %w", n.index, err)
	}
	return nil
}

func (n netdev) setMTU(mtu int) error {
	err := netlink.LinkSetMTU(n.device(), mtu)
	if errors.Is(err, unix.EINVAL) {
		l, _ := n.conn.LinkByIndex(n.index)
		return refusal.New("VF device "+l.Name, "mtu", mtu, "an MTU that the VF's driver takes").Because(err)
	}
	if err != nil {
		return fmt.Errorf("set MTU of link %d: %w", n.index, err)
	}
	return nil
}

// rename gives the device the name it had, or, where that is taken, its spare
// one. It returns the name it has in the end.
func (n netdev) rename(name, spare string) (string, error) {
	l, err := n.conn.LinkByIndex(n.index)
	if err != nil || l.Name == name {
		return l.Name, err
	}
	// Kernels before 6.3 rename only what is down.
	if err := n.down(l); err != nil {
		return l.Name, err
	}
	for _, alt := range l.AltNames {
		if alt != name {
			continue
		}
		if err := netlink.LinkDelAltName(n.device(), alt); err != nil {
			return l.Name, fmt.Errorf("delete alternative name %s: %w", alt, err)
		}
	}
	err = netlink.LinkSetName(n.device(), name)
	if errors.Is(err, unix.EEXIST) && l.Name != spare {
		name, err = spare, netlink.LinkSetName(n.device(), spare)
	} else if errors.Is(err, unix.EEXIST) {
		return spare, nil
	}
	if err != nil {
		return l.Name, fmt.Errorf("rename %s to %s: %w", l.Name, name, err)
	}
	return name, nil
}
