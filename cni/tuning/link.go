package tuning

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// apply sets the attributes of the interface.
func apply(ns *os.File, name string, conf netconf.Tuning, object string) error {
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("tune %s: %w", name, err)
	}
	mac, _ := net.ParseMAC(conf.MAC)
	for _, s := range []struct {
		field  string
		wanted bool
		value  any
		do     func() error
	}{
		{"mac", conf.MAC != "", conf.MAC, func() error { return h.LinkSetHardwareAddr(l, mac) }},
		{"promisc", conf.Promisc && l.Attrs().Promisc == 0, conf.Promisc, func() error { return h.SetPromiscOn(l) }},
		{"mtu", conf.MTU != 0, conf.MTU, func() error { return h.LinkSetMTU(l, conf.MTU) }},
		{"allmulti", conf.Allmulti != nil, conf.Allmulti, func() error { return setAllmulti(h, l, *conf.Allmulti) }},
		{"txQLen", conf.TxQLen != nil, conf.TxQLen, func() error { return h.LinkSetTxQLen(l, *conf.TxQLen) }},
	} {
		if !s.wanted {
			continue
		}
		if err := s.do(); err != nil {
			return refused(s.field, s.value, name, object, err)
		}
	}
	return nil
}

// refused makes a refusal of what the interface's driver does not take.
func refused(field string, value any, name, object string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("tune %s: %w", name, err)
	}
	if p, ok := value.(*int); ok {
		value = *p
	}
	return refusal.New(object, field, value, "a value that the driver of "+name+" takes").Because(err)
}

func setAllmulti(h *netlink.Handle, l netlink.Link, on bool) error {
	if on {
		return h.LinkSetAllmulticastOn(l)
	}
	return h.LinkSetAllmulticastOff(l)
}

// restore gives the interface with the noted index what it had. Another one is
// not ours, and none is done.
func restore(ns *os.File, was *link) error {
	if was == nil {
		return nil
	}
	h, err := netns.Handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByIndex(was.Index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read link %d: %w", was.Index, err)
	}
	at, mac := l.Attrs(), net.HardwareAddr(nil)
	mac, _ = net.ParseMAC(was.MAC)
	var errs []error
	step := func(needed bool, what string, do func() error) {
		if !needed {
			return
		}
		if err := do(); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("restore %s of %s: %w", what, at.Name, err))
		}
	}
	step(at.MTU != was.MTU, "mtu", func() error { return h.LinkSetMTU(l, was.MTU) })
	step(len(mac) > 0 && at.HardwareAddr.String() != was.MAC, "mac", func() error { return h.LinkSetHardwareAddr(l, mac) })
	step(at.Promisc != 0 && !was.Promisc, "promisc", func() error { return h.SetPromiscOff(l) })
	step(at.RawFlags&unix.IFF_ALLMULTI != 0 != was.Allmulti, "allmulti", func() error { return setAllmulti(h, l, was.Allmulti) })
	step(at.TxQLen != was.TxQLen, "txQLen", func() error { return h.LinkSetTxQLen(l, was.TxQLen) })
	return errors.Join(errs...)
}
