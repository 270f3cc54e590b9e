package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/tendril-cni/tendril/cni/netconf"
)

// cniArgs returns CNI_ARGS as foreign plugins get it: the Kubernetes keys first
// and in the order that Multus sends them, then the runtime's other pairs.
func cniArgs(r Request) string {
	known := []string{argPodNamespace, argPodName, "K8S_POD_INFRA_CONTAINER_ID", argPodUID}
	pairs := []string{"IgnoreUnknown=true"}
	for _, k := range known {
		if v, ok := r.Args[k]; ok {
			pairs = append(pairs, k+"="+v)
		}
	}
	var rest []string
	for k, v := range r.Args {
		if k != "IgnoreUnknown" && !slices.Contains(known, k) {
			rest = append(rest, k+"="+v)
		}
	}
	slices.Sort(rest)
	return strings.Join(append(pairs, rest...), ";")
}

// resultOf returns the CNI result (version 1.1) of an attached record.
func resultOf(rec Record) (*current.Result, error) {
	if rec.Attachment.Kind != KindExec {
		return nativeResult(rec), nil
	}
	res := &current.Result{}
	if err := json.Unmarshal(rec.Result, res); err != nil {
		return nil, fmt.Errorf("decode result of network %s: %w", rec.Attachment.Network, err)
	}
	return res, nil
}

func nativeResult(rec Record) *current.Result {
	a := rec.Attachment
	before, after := onHost(rec.Host)
	res := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: slices.Concat(before, []*current.Interface{{
			Name: rec.Link.Name, Mac: rec.Link.MAC, Mtu: rec.Link.MTU, Sandbox: a.Netns.Path, PciID: rec.Link.PCI,
		}}, after),
		DNS: types.DNS(a.DNS),
	}
	for _, ad := range a.Addresses {
		index := len(before)
		ip := &current.IPConfig{Interface: &index, Address: ipNet(ad.Prefix)}
		if ad.Gateway.IsValid() {
			ip.Gateway = ad.Gateway.AsSlice()
		}
		res.IPs = append(res.IPs, ip)
	}
	for _, rt := range a.Routes {
		out := &types.Route{Dst: ipNet(rt.Dst), MTU: rt.MTU, AdvMSS: rt.AdvMSS, Priority: rt.Priority, Table: rt.Table, Scope: rt.Scope}
		if rt.Via.IsValid() {
			out.GW = rt.Via.AsSlice()
		}
		res.Routes = append(res.Routes, out)
	}
	return res
}

// onHost are the links on the host as a result has them: bridge and port before
// the pod's interface, the gateway's own after it.
func onHost(links []Link) (before, after []*current.Interface) {
	for i, l := range links {
		in := &current.Interface{Name: l.Name, Mac: l.MAC}
		if i < 2 {
			before = append(before, in)
		} else {
			after = append(after, in)
		}
	}
	return before, after
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Statuses returns the network-status entries of a pod's records, in attach
// order (NPWG v1.3 section 5, in the form in which Multus writes them).
func Statuses(records []Record) []NetworkStatus {
	var out []NetworkStatus
	for _, rec := range effective(records) {
		res, err := resultOf(rec)
		if err != nil {
			res = &current.Result{}
		}
		out = append(out, statusOf(rec, res)...)
	}
	return out
}

// statusOf makes one entry for each interface that the result has in the pod,
// and at least one: a network that reports no interface still is attached.
func statusOf(rec Record, res *current.Result) []NetworkStatus {
	a := rec.Attachment
	base := NetworkStatus{Name: a.Network, DNS: netconf.DNS(res.DNS), Gateway: gateways(res), DeviceInfo: deviceInfo(rec)}
	var out []NetworkStatus
	var index []int // index[i] is the result's interface behind out[i]
	for i, in := range res.Interfaces {
		if in.Sandbox == "" && len(res.Interfaces) > 1 {
			continue
		}
		s := base
		s.Interface, s.MAC, s.MTU = in.Name, in.Mac, in.Mtu
		out, index = append(out, s), append(index, i)
	}
	if len(out) == 0 {
		base.Interface = a.IfName
		out, index = []NetworkStatus{base}, []int{0}
	}
	primary := -1
	for _, ip := range res.IPs {
		at := len(out) - 1
		if ip.Interface != nil {
			if k := slices.Index(index, *ip.Interface); k >= 0 {
				at = k
			}
		}
		out[at].IPs = append(out[at].IPs, ip.Address.IP.String())
		if ip.Gateway != nil && primary < 0 {
			primary = at
		}
	}
	if a.Default {
		out[max(primary, 0)].Default = true
	}
	return out
}

// gateways lists the gateways of the result's default routes.
func gateways(res *current.Result) []string {
	var out []string
	for _, rt := range res.Routes {
		if isDefault(rt) && rt.GW != nil {
			out = append(out, rt.GW.String())
		}
	}
	return out
}

// deviceInfo is the device-info object of the attachment, nil for none.
func deviceInfo(rec Record) any {
	if len(rec.DeviceInfo) > 0 {
		return rec.DeviceInfo
	}
	if a := rec.Attachment; a.Device != "" && !a.Default {
		return pciInfo(a.Device) // attached by an earlier version
	}
	return nil
}

func observedAddresses(rec Record) []Address {
	res, err := resultOf(rec)
	if err != nil {
		return nil
	}
	var out []Address
	for _, ip := range res.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		out = append(out, Address{Prefix: netip.PrefixFrom(addr.Unmap(), ones)})
	}
	return out
}
