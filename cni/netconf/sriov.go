package netconf

import (
	"fmt"
	"strings"
)

// ParseSriov reads the configuration of an SR-IOV VF (sriov-cni v2.10, type
// sriov), defaults applied: with a vlan, QoS and Proto are always set; with one
// rate, both are. Device and log fields are not part of it. Every error is a
// refusal.Refusal without an object.
func ParseSriov(p Plugin) (Sriov, error) {
	o := openObject("", p.Raw)
	s := Sriov{
		MAC:      o.mac("mac"),
		SpoofChk: o.onOff("spoofchk"),
		Trust:    o.onOff("trust"),
		MTU:      int(o.number("mtu", 0, maxMTU)),
		Promisc:  o.flag("promisc"),
		Allmulti: o.flag("allmulti"),
	}
	if raw := o.raw("vlanTrunk"); raw != nil {
		o.refuse("vlanTrunk", shown(raw), "absent: no driver of the kernel filters a list of VLANs for a VF; without vlan it passes all that its PF lets through")
	}
	if w := o.word("link_state", "", "auto", "enable", "disable"); w != "" {
		s.LinkState = &w
	}
	o.sriovVLAN(&s)
	o.sriovRates(&s)
	o.sriovBandwidth(&s)
	if o.err != nil {
		return Sriov{}, o.err
	}
	return s, nil
}

// onOff returns nil when absent or empty. Upstream takes every other word for
// off; here it is refused, because a typo would open a VF.
func (o *object) onOff(key string) *bool {
	switch o.word(key, "", "on", "off") {
	case "on":
		return ptr(true)
	case "off":
		return ptr(false)
	}
	return nil
}

// sriovVLAN reads vlan and what may only stand beside it. vlan 0 is an explicit
// "no VLAN" and can carry neither a priority nor a service tag.
func (o *object) sriovVLAN(s *Sriov) {
	s.VLAN = toInt(o.integer("vlan", 0, 4094))
	s.QoS = toInt(o.integer("vlanQoS", 0, 7))
	proto := strings.ToLower(o.text("vlanProto"))
	given := o.raw("vlanProto") != nil
	if given && proto != "802.1q" && proto != "802.1ad" {
		o.refuse("vlanProto", o.text("vlanProto"), "802.1q, 802.1ad")
	}
	if s.VLAN == nil {
		if s.QoS != nil {
			o.refuse("vlanQoS", *s.QoS, "absent, or together with vlan")
		}
		if given {
			o.refuse("vlanProto", proto, "absent, or together with vlan")
		}
		return
	}
	if s.QoS == nil {
		s.QoS = ptr(0)
	}
	if !given {
		proto = "802.1q"
	}
	s.Proto = &proto
	if *s.VLAN == 0 && *s.QoS != 0 {
		o.refuse("vlanQoS", *s.QoS, "0 with vlan 0")
	}
	if *s.VLAN == 0 && proto != "802.1q" {
		o.refuse("vlanProto", proto, "802.1q with vlan 0")
	}
}

// sriovRates reads both rates. The kernel sets them in one message, so naming
// one writes the other as 0 (no limit).
func (o *object) sriovRates(s *Sriov) {
	const most = 1<<32 - 1 // u32 in struct ifla_vf_rate
	s.MinTxRate = toInt(o.integer("min_tx_rate", 0, most))
	s.MaxTxRate = toInt(o.integer("max_tx_rate", 0, most))
	if s.MinTxRate == nil && s.MaxTxRate == nil {
		return
	}
	if s.MinTxRate == nil {
		s.MinTxRate = ptr(0)
	}
	if s.MaxTxRate == nil {
		s.MaxTxRate = ptr(0)
	}
	if *s.MaxTxRate != 0 && *s.MinTxRate > *s.MaxTxRate {
		o.refuse("min_tx_rate", *s.MinTxRate, fmt.Sprintf("0..%d (max_tx_rate)", *s.MaxTxRate))
	}
}

// megabit is the unit of a VF's rates, in that of the capability bandwidth.
const megabit = 1_000_000

// sriovBandwidth reads runtimeConfig.bandwidth, which beats max_tx_rate: what the
// pod sends, rounded down to whole Mbit/s and at least one. A VF has no burst of
// its own to set, and nothing limits what it receives.
func (o *object) sriovBandwidth(s *Sriov) {
	rc := o.open("runtimeConfig")
	if rc == nil {
		return
	}
	if b := rc.open("bandwidth"); b != nil {
		in, _ := b.rateAndBurst("ingress")
		out, _ := b.rateAndBurst("egress")
		if in != 0 {
			b.refuse("ingressRate", in, "0 or absent: a VF's rate limits what it sends, and nothing limits what it receives")
		}
		if out != 0 {
			s.MaxTxRate = ptr(int(max(out/megabit, 1)))
			if s.MinTxRate == nil {
				s.MinTxRate = ptr(0)
			}
			if *s.MinTxRate > *s.MaxTxRate {
				b.refuse("egressRate", out, fmt.Sprintf("%d or more: min_tx_rate is %d Mbit/s", *s.MinTxRate*megabit, *s.MinTxRate))
			}
		}
		rc.close(b)
	}
	o.close(rc)
}

func ptr[T any](v T) *T { return &v }

func toInt(v *int64) *int {
	if v == nil {
		return nil
	}
	return ptr(int(*v))
}
