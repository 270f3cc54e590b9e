package netconf

import (
	"fmt"
	"slices"
)

// Bridge is the configuration of a port of a Linux bridge, defaults applied.
type Bridge struct {
	// Name is the bridge's name, cni0 by default.
	Name string
	// Gateway puts the gateway's address on the bridge and turns forwarding on;
	// DefaultGateway implies it and adds default routes in the pod.
	Gateway, DefaultGateway bool
	// ForceAddress replaces an address of the bridge that is in the way.
	ForceAddress bool
	// Masquerade hides the pod's addresses behind the host's.
	Masquerade bool
	// MasqueradeBackend is "", iptables or nftables.
	MasqueradeBackend string
	// MTU 0 leaves the kernel's default.
	MTU int
	// Hairpin and Promisc exclude each other.
	Hairpin, Promisc bool
	// VLAN is the access VLAN, 0 for none; Trunk the tagged ones, ascending.
	VLAN  int
	Trunk []int
	// VLANFiltering is what a bridge made by this attachment starts with.
	VLANFiltering bool
	// PreserveDefaultVLAN keeps VLAN 1 on a port with VLAN or Trunk.
	PreserveDefaultVLAN bool
	// MACSpoofCheck drops frames of the pod from other hardware addresses.
	MACSpoofCheck bool
	// DAD asks for duplicate address detection in the pod.
	DAD bool
	// Down leaves the pod's end down; only without ipam.
	Down bool
	// Isolated keeps the port from talking to other isolated ports.
	Isolated bool
	// MAC is args.cni.mac, lower case; "" for none.
	MAC string
}

// ParseBridge reads the configuration of a bridge port (containernetworking
// plugins v1.9, main/bridge), defaults applied. Every error is a
// refusal.Refusal without an object.
func ParseBridge(p Plugin) (Bridge, error) {
	o := openObject("", p.Raw)
	b := Bridge{
		Name:                o.linkName("bridge"),
		Gateway:             o.flag("isGateway"),
		DefaultGateway:      o.flag("isDefaultGateway"),
		ForceAddress:        o.flag("forceAddress"),
		Masquerade:          o.flag("ipMasq"),
		MasqueradeBackend:   o.word("ipMasqBackend", "", "iptables", "nftables"),
		MTU:                 int(o.number("mtu", 0, maxMTU)),
		Hairpin:             o.flag("hairpinMode"),
		Promisc:             o.flag("promiscMode"),
		VLAN:                int(o.number("vlan", 0, 4094)),
		Trunk:               o.trunk(),
		PreserveDefaultVLAN: o.flag("preserveDefaultVlan"),
		MACSpoofCheck:       o.flag("macspoofchk"),
		DAD:                 o.flag("enabledad"),
		Down:                o.flag("disableContainerInterface"),
		Isolated:            o.flag("portIsolation"),
	}
	if b.Name == "" {
		b.Name = "cni0"
	}
	b.Gateway = b.Gateway || b.DefaultGateway
	b.VLANFiltering = b.VLAN != 0 || o.raw("vlanTrunk") != nil
	o.args(func(cni *object) { b.MAC = cni.mac("mac") })
	if b.Hairpin && b.Promisc {
		o.refuse("promiscMode", true, "false with hairpinMode")
	}
	if _, kind, err := ParseIPAM(p); err == nil && kind != "" && b.Down {
		o.refuse("disableContainerInterface", true, "false with an ipam")
	}
	if o.err != nil {
		return Bridge{}, o.err
	}
	return b, nil
}

// trunk reads vlanTrunk: entries with id, or with minID and maxID, or both.
func (o *object) trunk() []int {
	var out []int
	for i, raw := range o.list("vlanTrunk") {
		e := openObject(fmt.Sprintf("%svlanTrunk[%d]", o.path, i), raw)
		id, lo, hi := e.integer("id", 1, 4094), e.integer("minID", 1, 4094), e.integer("maxID", 1, 4094)
		switch {
		case e.err != nil:
		case lo == nil && hi != nil:
			e.refuse("minID", "", "1..4094, together with maxID")
		case lo != nil && hi == nil:
			e.refuse("maxID", "", "1..4094, together with minID")
		case lo != nil && *hi < *lo:
			e.refuse("maxID", *hi, fmt.Sprintf("%d..4094, at least minID", *lo))
		case lo != nil:
			for v := *lo; v <= *hi; v++ {
				out = append(out, int(v))
			}
		}
		if id != nil {
			out = append(out, int(*id))
		}
		o.close(e)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
