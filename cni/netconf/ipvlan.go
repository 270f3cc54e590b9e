package netconf

// ParseIpvlan reads the configuration of an ipvlan (containernetworking plugins
// v1.9, main/ipvlan), defaults applied. Every error is a refusal.Refusal without
// an object.
func ParseIpvlan(p Plugin) (Ipvlan, error) {
	o := openObject("", p.Raw)
	v := Ipvlan{
		Master:          o.master(),
		Mode:            o.word("mode", "l2", "l2", "l3", "l3s"),
		Flag:            o.word("flag", "bridge", "bridge", "private", "vepa"),
		MTU:             int(o.number("mtu", 0, maxMTU)),
		LinkInContainer: o.flag("linkInContainer"),
	}
	if o.err != nil {
		return Ipvlan{}, o.err
	}
	return v, nil
}
