package netns

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForeignAltNames are those alternative names of l that are none of own; none where
// own is nil, because nobody noted them. Alternative names go with a link from
// namespace to namespace, and the kernel moves a link to no namespace in which one
// of them is taken (EEXIST).
func ForeignAltNames(l Link, own []string) []string {
	if own == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(l.AltNames), func(n string) bool { return slices.Contains(own, n) })
}

// DropAltNames takes the foreign alternative names from l, which is in ns (nil: the
// daemon's own namespace).
func DropAltNames(ns *os.File, l Link, own []string) error {
	foreign := ForeignAltNames(l, own)
	if len(foreign) == 0 {
		return nil
	}
	return withAltNames(ns, l, func(h *netlink.Handle, link netlink.Link) error {
		var errs []error
		for _, name := range foreign {
			errs = append(errs, h.LinkDelAltName(link, name))
		}
		return errors.Join(errs...)
	})
}

// RestoreAltNames gives the link with that index in the daemon's own namespace the
// alternative names own and no others, but for one that another link has by now. It
// does nothing where own is nil.
func RestoreAltNames(index int, own []string) error {
	if own == nil {
		return nil
	}
	host, err := Dial(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	l, err := host.LinkByIndex(index) // as it is now, which may be under another name
	if err != nil {
		return err
	}
	if err := DropAltNames(nil, l, own); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(own), func(n string) bool { return n == l.Name || slices.Contains(l.AltNames, n) })
	if len(missing) == 0 {
		return nil
	}
	return withAltNames(nil, l, func(h *netlink.Handle, link netlink.Link) error {
		var errs []error
		for _, name := range missing {
			if err := h.LinkAddAltName(link, name); !errors.Is(err, unix.EEXIST) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

func withAltNames(ns *os.File, l Link, do func(*netlink.Handle, netlink.Link) error) error {
	h, err := Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := do(h, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}); err != nil {
		return fmt.Errorf("restore alternative names of %s: %w", l.Name, err)
	}
	return nil
}
