package sriov

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// foreign are those of the names that the VF's device had not before the attachment.
// Alternative names go with a device from namespace to namespace.
func (p prior) foreign(names []string) []string {
	if p.AltNames == nil {
		return nil // not noted
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(p.AltNames, n) })
}

// setAltNames takes away the alternative names that the pod added and gives back
// those that it took away, but for one that another device of the host has by now.
func (n netdev) setAltNames(p prior) error {
	l, err := n.conn.LinkByIndex(n.index)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range p.foreign(l.AltNames) {
		errs = append(errs, netlink.LinkDelAltName(n.device(), name))
	}
	for _, name := range p.AltNames {
		if slices.Contains(l.AltNames, name) || name == l.Name {
			continue
		}
		if err := netlink.LinkAddAltName(n.device(), name); !errors.Is(err, unix.EEXIST) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restore alternative names of %s: %w", l.Name, err)
	}
	return nil
}
