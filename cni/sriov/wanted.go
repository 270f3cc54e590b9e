package sriov

import (
	"fmt"
	"net"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
)

// wanted is what an attachment asks of its VF: the network's configuration, with
// the attachment's own MAC in its place.
type wanted struct{ netconf.Sriov }

// want reads it from the configuration's sriov entry, which is the first one
// unless another is of that type.
func want(a cni.Attachment) (wanted, error) {
	object := object(a)
	if len(a.Config.Plugins) == 0 {
		return wanted{}, refusal.New(object, "plugins", "[]", "a configuration with an entry of type sriov")
	}
	entry := a.Config.Plugins[0]
	for _, p := range a.Config.Plugins {
		if p.Type == cni.KindSriov {
			entry = p
			break
		}
	}
	s, err := netconf.ParseSriov(entry)
	if err != nil {
		return wanted{}, refusal.Name(err, object)
	}
	if a.MAC != "" {
		s.MAC = a.MAC
	}
	if s.MAC, err = unicast(object, s.MAC); err != nil {
		return wanted{}, err
	}
	return wanted{s}, nil
}

// noNetdev refuses what is set on a network device, of which a VF with a userspace
// driver has none.
func (w wanted) noNetdev(object string, v vf.VF) error {
	allowed := "absent: VF " + v.Addr.String() + " has userspace driver " + v.Driver + ", which sets its own"
	switch {
	case w.MTU != 0:
		return refusal.New(object, "mtu", w.MTU, allowed)
	case w.Promisc:
		return refusal.New(object, "promisc", true, allowed)
	case w.Allmulti:
		return refusal.New(object, "allmulti", true, allowed)
	}
	return nil
}

// object names an attachment in refusals.
func object(a cni.Attachment) string {
	return fmt.Sprintf("network %q of pod %q, interface %s", a.Network, a.Pod, a.IfName)
}

// unicast returns mac in lower-case colon form, "" for "". No driver gives a VF a
// group address or zeros; the configuration's parser lets some of them through.
func unicast(object, mac string) (string, error) {
	if mac == "" {
		return "", nil
	}
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == link.ZeroMAC {
		return "", refusal.New(object, "mac", mac, "a unicast hardware address of 6 bytes, not all zeros")
	}
	return hw.String(), nil
}

// fields are the names of all that is to be set on the PF.
func (w wanted) fields() []string {
	c := w.change()
	var names []string
	for _, f := range []struct {
		name  string
		asked bool
	}{
		{link.FieldVLAN, c.VLAN != nil}, {link.FieldMAC, w.MAC != ""}, {link.FieldRates, c.Rates != nil},
		{link.FieldSpoofChk, c.SpoofChk != nil}, {link.FieldTrust, c.Trust != nil}, {link.FieldLinkState, c.LinkState != nil},
	} {
		if f.asked {
			names = append(names, f.name)
		}
	}
	return names
}

// change is what goes to the PF, but for the MAC: that has rules of its own.
func (w wanted) change() link.Change {
	c := link.Change{SpoofChk: w.SpoofChk, Trust: w.Trust, LinkState: w.LinkState}
	if w.VLAN != nil {
		c.VLAN = &link.VLAN{ID: *w.VLAN, QoS: value(w.QoS), Proto: link.Proto8021Q}
		if w.Proto != nil {
			c.VLAN.Proto = *w.Proto
		}
	}
	if w.MinTxRate != nil || w.MaxTxRate != nil {
		c.Rates = &link.Rates{Min: value(w.MinTxRate), Max: value(w.MaxTxRate)}
	}
	return c
}

func value(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}
