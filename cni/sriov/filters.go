package sriov

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
)

// filters opens those of the device in the pod that are asked for. The kernel
// answers yes whatever the NIC makes of it: a PF may keep an untrusted VF from it
// without a word.
func filters(ns *os.File, index int, w wanted) error {
	if !w.Promisc && !w.Allmulti {
		return nil
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	dev := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if w.Promisc {
		if err := h.SetPromiscOn(dev); err != nil {
			return fmt.Errorf("set promisc of link %d: %w", index, err)
		}
	}
	if w.Allmulti {
		if err := h.LinkSetAllmulticastOn(dev); err != nil {
			return fmt.Errorf("set allmulti of link %d: %w", index, err)
		}
	}
	return nil
}

// setFilters gives the device on the host the flags that it had.
func (n netdev) setFilters(l netns.Link, p prior) error {
	var errs []error
	if l.Flags&unix.IFF_PROMISC != 0 && !p.Promisc {
		errs = append(errs, netlink.SetPromiscOff(n.device()))
	}
	if l.Flags&unix.IFF_PROMISC == 0 && p.Promisc {
		errs = append(errs, netlink.SetPromiscOn(n.device()))
	}
	if l.Flags&unix.IFF_ALLMULTI != 0 && !p.Allmulti {
		errs = append(errs, netlink.LinkSetAllmulticastOff(n.device()))
	}
	if l.Flags&unix.IFF_ALLMULTI == 0 && p.Allmulti {
		errs = append(errs, netlink.LinkSetAllmulticastOn(n.device()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restore promisc and allmulti of link %d: %w", n.index, err)
	}
	return nil
}
