package netconf

// maxMTU is the largest MTU of an Ethernet-like link (ETH_MAX_MTU in the
// kernel's if_ether.h). The parent's own limit is checked where it is known.
const maxMTU = 65535

// ParseMacvlan reads the configuration of a macvlan (containernetworking
// plugins v1.9, main/macvlan), defaults applied. Every error is a
// refusal.Refusal without an object.
func ParseMacvlan(p Plugin) (Macvlan, error) {
	o := openObject("", p.Raw)
	m := Macvlan{
		Master:          o.master(),
		Mode:            o.word("mode", "bridge", "bridge", "private", "vepa", "passthru"),
		MTU:             int(o.number("mtu", 0, maxMTU)),
		MAC:             o.mac("mac"),
		LinkInContainer: o.flag("linkInContainer"),
		BcQueueLen:      uint32(o.number("bcqueuelen", 0, 1<<32-1)),
	}
	if o.err != nil {
		return Macvlan{}, o.err
	}
	return m, nil
}

// master returns the parent's name; empty means the default route's link.
func (o *object) master() string {
	s := o.text("master")
	if s != "" && (len(s) > 127 || !validLinkBytes(s)) {
		o.refuse("master", s, masterForm)
	}
	return s
}

// mac returns an Ethernet address in lower-case colon form, "" when absent.
func (o *object) mac(key string) string {
	s := o.text(key)
	if s == "" {
		return ""
	}
	mac, ok := ParseMAC(s)
	if !ok {
		o.refuse(key, s, macForm)
	}
	return mac
}
