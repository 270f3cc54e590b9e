package netconf

import (
	"encoding/json"
	"slices"
)

// IPAM types that Tendril serves in process.
const (
	ipamStatic      = "static"
	ipamHostLocal   = "host-local"
	ipamWhereabouts = "whereabouts"
	ipamTendril     = "tendril"
	ipamDHCP        = "dhcp"
)

// served are the types of ipam that are served in process; "" is none at all.
var served = []string{"", ipamStatic, ipamHostLocal, ipamWhereabouts, ipamTendril, ipamDHCP}

// DNS is the dns object of CNI results and configurations.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// ParseIPAM returns the ipam object of p as written and its type. An absent
// ipam, {} and an empty type all mean "no addresses": kind is "" then.
func ParseIPAM(p Plugin) (raw json.RawMessage, kind string, err error) {
	o := openObject("", p.Raw)
	ipam := o.open("ipam")
	if ipam == nil {
		return nil, "", o.err
	}
	kind = ipam.text("type")
	if kind != "" && !validName(kind) {
		ipam.refuse("type", kind, nameForm)
	}
	o.close(ipam)
	if o.err != nil {
		return nil, "", o.err
	}
	return o.raw("ipam"), kind, nil
}

// ParseDNS returns the dns object of p itself (not that of its ipam), zero when
// absent. Which of the two counts depends on the type: see the field guide's
// table of common rules, and CONVENTIONS.md of the CNI.
func ParseDNS(p Plugin) (DNS, error) {
	o := openObject("", p.Raw)
	dns := o.open("dns")
	if dns == nil {
		return DNS{}, o.err
	}
	d := DNS{
		Nameservers: dns.texts("nameservers"),
		Domain:      dns.text("domain"),
		Search:      dns.texts("search"),
		Options:     dns.texts("options"),
	}
	o.close(dns)
	if o.err != nil {
		return DNS{}, o.err
	}
	return d, nil
}

// AskedIPs returns the addresses asked for, as written, from the pod's selection
// e and from args.cni.ips of the configuration. host-local takes both; for every
// other type the pod's replace the configuration's, as runtimeConfig.ips
// replaces args.cni.ips upstream.
func AskedIPs(p Plugin, e Element) ([]string, error) {
	o := openObject("", p.Raw)
	var configured []string
	if args := o.open("args"); args != nil {
		if cni := args.open("cni"); cni != nil {
			configured = cni.ips("ips")
			args.close(cni)
		}
		o.close(args)
	}
	if o.err != nil {
		return nil, o.err
	}
	_, kind, err := ParseIPAM(p)
	if err != nil {
		return nil, err
	}
	if kind != ipamHostLocal && len(e.IPs) > 0 {
		configured = nil
	}
	var out []string
	for _, ip := range append(configured, e.IPs...) {
		if !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out, nil
}
