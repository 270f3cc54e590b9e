package main

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netconf"
)

// result is the answer to ADD: the host's links, then the pod's with its
// addresses. Routes are the ipam's as it wrote them, and what the kind added.
func (d driver) result(r cni.Record, l lease) (*current.Result, error) {
	a := r.Attachment
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, DNS: types.DNS(a.DNS)}
	var after []*current.Interface
	if d.host != nil {
		links, err := d.host(r)
		if err != nil {
			return nil, err
		}
		for i, h := range links {
			in := &current.Interface{Name: h.Name, Mac: h.MAC}
			if i < 2 {
				res.Interfaces = append(res.Interfaces, in)
			} else {
				after = append(after, in) // the gateway's device stands behind the pod's
			}
		}
	}
	at := len(res.Interfaces)
	res.Interfaces = append(res.Interfaces, &current.Interface{
		Name: r.Link.Name, Mac: r.Link.MAC, Mtu: r.Link.MTU, Sandbox: a.Netns.Path, PciID: r.Link.PCI,
	})
	res.Interfaces = append(res.Interfaces, after...)
	for _, ad := range a.Addresses {
		ip := &current.IPConfig{Interface: &at, Address: ipNet(ad.Prefix)}
		if ad.Gateway.IsValid() {
			ip.Gateway = ad.Gateway.AsSlice()
		}
		res.IPs = append(res.IPs, ip)
	}
	if l.result != nil {
		res.Routes = append(res.Routes, l.result.Routes...)
		if d.ipamDNS && (netconf.DNS{}).Domain == a.DNS.Domain && len(a.DNS.Nameservers)+len(a.DNS.Search)+len(a.DNS.Options) == 0 {
			res.DNS = l.result.DNS
		}
	}
	for _, rt := range a.Routes[min(len(res.Routes), len(a.Routes)):] {
		res.Routes = append(res.Routes, &types.Route{Dst: ipNet(rt.Dst), GW: rt.Via.AsSlice()})
	}
	return res, nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
