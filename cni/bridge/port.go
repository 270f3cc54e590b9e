package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/refusal"
)

// checkBridge refuses a link of the bridge's name that is none, and VLANs on a
// bridge that does not filter them.
func checkBridge(h *netlink.Handle, conf netconf.Bridge, object string) error {
	l, err := h.LinkByName(conf.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read bridge %s: %w", conf.Name, err)
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return refusal.New(object, "bridge", conf.Name, "the name of a bridge, or of nothing yet; this is a link of type "+l.Type())
	}
	if conf.VLANFiltering && (br.VlanFiltering == nil || !*br.VlanFiltering) {
		return refusal.New(object, "vlan", conf.VLAN, fmt.Sprintf("none on bridge %s, which does not filter VLANs; turn vlan_filtering on", conf.Name))
	}
	return nil
}

// ensure returns the bridge, made if it was missing, up. Its hardware address is
// fixed when it is made: otherwise it would follow its ports and change.
func ensure(h *netlink.Handle, conf netconf.Bridge) (*netlink.Bridge, error) {
	l, err := h.LinkByName(conf.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		l, err = makeBridge(h, conf)
	}
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", conf.Name, err)
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return nil, refusal.New("", "bridge", conf.Name, "the name of a bridge")
	}
	if conf.Promisc && br.Promisc == 0 {
		if err := h.SetPromiscOn(br); err != nil {
			return nil, fmt.Errorf("set %s promiscuous: %w", conf.Name, err)
		}
	}
	// The gateway is ours to set. The key is absent where IPv6 is.
	_ = sysctl("/proc/sys/net/ipv6/conf/"+conf.Name+"/accept_ra", "0")
	if br.Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("set %s up: %w", conf.Name, err)
		}
	}
	return br, nil
}

func makeBridge(h *netlink.Handle, conf netconf.Bridge) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = conf.Name, conf.MTU, make(net.HardwareAddr, 6)
	if _, err := rand.Read(attrs.HardwareAddr); err != nil {
		return nil, err
	}
	// Unicast, locally administered.
	attrs.HardwareAddr[0] = attrs.HardwareAddr[0]&^1 | 2
	br := &netlink.Bridge{LinkAttrs: attrs}
	if conf.VLANFiltering {
		br.VlanFiltering = &conf.VLANFiltering
	}
	// Another pod's attachment may have been faster.
	if err := h.LinkAdd(br); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	return h.LinkByName(conf.Name)
}

// plug makes the host's end a port of the bridge and sets it up.
func plug(h *netlink.Handle, br *netlink.Bridge, conf netconf.Bridge, a cni.Attachment) (netlink.Link, error) {
	port, err := h.LinkByName(portName(a))
	if err != nil {
		return nil, fmt.Errorf("find port %s: %w", portName(a), err)
	}
	name := port.Attrs().Name
	steps := []struct {
		what string
		do   func() error
	}{
		{"mark", func() error { return h.LinkSetAlias(port, markOf(a)) }},
		{"connect", func() error { return h.LinkSetMaster(port, br) }},
		{"set hairpin of", func() error { return setIf(conf.Hairpin, func() error { return h.LinkSetHairpin(port, true) }) }},
		{"isolate", func() error { return setIf(conf.Isolated, func() error { return h.LinkSetIsolated(port, true) }) }},
		{"set VLANs of", func() error { return vlans(h, port, conf.VLAN, conf.Trunk, conf.PreserveDefaultVLAN) }},
		{"quieten", func() error {
			// Routers on the bridge are the pod's business, not the host's. The key is
			// absent where IPv6 is.
			_ = sysctl("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", "0")
			return nil
		}},
		{"set up", func() error { return h.LinkSetUp(port) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return nil, fmt.Errorf("%s port %s of bridge %s: %w", s.what, name, conf.Name, err)
		}
	}
	return port, nil
}

func setIf(wanted bool, do func() error) error {
	if !wanted {
		return nil
	}
	return do()
}

// vlans gives the port its access VLAN and its trunk. A trunk without an access
// VLAN keeps 1 as its untagged one, as the reference does.
func vlans(h *netlink.Handle, port netlink.Link, access int, trunk []int, keepDefault bool) error {
	if access == 0 && len(trunk) == 0 {
		return nil
	}
	if !keepDefault {
		if err := clearVLANs(h, port); err != nil {
			return err
		}
	}
	if access == 0 {
		access = 1
	}
	for _, v := range trunk {
		if err := h.BridgeVlanAdd(port, uint16(v), false, false, false, true); err != nil {
			return fmt.Errorf("vlan %d: %w", v, err)
		}
	}
	if err := h.BridgeVlanAdd(port, uint16(access), true, true, false, true); err != nil {
		return fmt.Errorf("vlan %d: %w", access, err)
	}
	return nil
}

func clearVLANs(h *netlink.Handle, port netlink.Link) error {
	all, err := h.BridgeVlanList()
	if err != nil {
		return fmt.Errorf("read VLANs: %w", err)
	}
	for _, v := range all[int32(port.Attrs().Index)] {
		if err := h.BridgeVlanDel(port, v.Vid, false, false, false, true); err != nil {
			return fmt.Errorf("delete VLAN %d: %w", v.Vid, err)
		}
	}
	return nil
}

func vlanName(conf netconf.Bridge) string { return fmt.Sprintf("%s.%d", conf.Name, conf.VLAN) }

// ensureVLAN returns the host's own port in the access VLAN, which carries the
// gateway: a pair of which both ends are on the host.
func ensureVLAN(h *netlink.Handle, br *netlink.Bridge, conf netconf.Bridge) (netlink.Link, error) {
	name := vlanName(conf)
	if l, err := h.LinkByName(name); err == nil {
		return l, nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, br.MTU
	far := fmt.Sprintf("tg%d.%d", br.Index, conf.VLAN)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	port, err := h.LinkByName(far)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", far, err)
	}
	if err := errors.Join(h.LinkSetMaster(port, br), vlans(h, port, conf.VLAN, nil, conf.PreserveDefaultVLAN), h.LinkSetUp(port), h.LinkSetUp(l)); err != nil {
		return nil, fmt.Errorf("set up gateway device %s: %w", name, err)
	}
	return l, nil
}

// unplug deletes the host's end and with it the pod's, if it is ours, and
// reports whether there was one.
func unplug(name, mark string) (bool, error) {
	h, err := netns.Handle(nil)
	if err != nil {
		return false, err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read port %s: %w", name, err)
	}
	// Between the making and the mark the alias is empty.
	if alias := l.Attrs().Alias; l.Type() != "veth" || alias != "" && alias != mark {
		return false, nil
	}
	if err := h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return false, fmt.Errorf("delete port %s: %w", name, err)
	}
	return true, nil
}
