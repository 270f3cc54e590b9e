package netconf

// Vlan is the configuration of a VLAN device, defaults applied.
type Vlan struct {
	// Master is the parent's name or altname; never empty.
	Master string
	// ID is the VLAN, 0..4094 (IEEE 802.1Q; 0 is priority tagging alone).
	ID int
	// MTU 0 means the parent's.
	MTU             int
	LinkInContainer bool
}

// ParseVlan reads the configuration of a VLAN device (containernetworking
// plugins v1.9, main/vlan), defaults applied. Every error is a refusal.Refusal
// without an object.
func ParseVlan(p Plugin) (Vlan, error) {
	o := openObject("", p.Raw)
	v := Vlan{
		Master:          o.master(),
		ID:              int(o.number("vlanId", 0, 4094)),
		MTU:             int(o.number("mtu", 0, maxMTU)),
		LinkInContainer: o.flag("linkInContainer"),
	}
	if v.Master == "" {
		o.refuse("master", "", "the name of the link that carries the VLAN")
	}
	if o.err != nil {
		return Vlan{}, o.err
	}
	return v, nil
}
