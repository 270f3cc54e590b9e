package netconf

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
)

// parseElement reads one object of the long form.
func parseElement(raw json.RawMessage, namespace string) (Element, error) {
	o := openObject("", raw)
	e := Element{
		Namespace:      o.text("namespace"),
		Name:           o.text("name"),
		Interface:      o.text("interface"),
		IPs:            o.ips("ips"),
		MAC:            o.hardware("mac", 6, 8, 20),
		InfinibandGUID: o.hardware("infiniband-guid", 8),
		PortMappings:   o.portMappings("portMappings"),
		Bandwidth:      o.bandwidth("bandwidth"),
		DefaultRoute:   o.gateways("default-route"),
		CNIArgs:        o.arguments("cni-args"),
		DeviceID:       o.device("deviceID"),
		IPAMClaim:      o.text("ipam-claim-reference"),
	}
	if e.Namespace == "" {
		e.Namespace = namespace
	}
	// interfaceRequest is the older spelling; interface wins.
	if old := o.text("interfaceRequest"); e.Interface == "" {
		e.Interface = old
	}
	if !validObject(e.Name) {
		o.refuse("name", e.Name, objectForm)
	}
	if e.IPAMClaim != "" && !validObject(e.IPAMClaim) {
		o.refuse("ipam-claim-reference", e.IPAMClaim, objectForm)
	}
	if e.IPAMClaim != "" && len(e.IPs) > 0 {
		o.refuse("ips", strings.Join(e.IPs, ", "), "absent when ipam-claim-reference is given: the claim has the addresses")
	}
	if o.err == nil {
		o.err = e.checkPlace()
	}
	return e, o.err
}

// ips returns a list of addresses or CIDRs as written.
func (o *object) ips(key string) []string {
	list := o.texts(key)
	for i, s := range list {
		_, isAddr := parseAddr(s)
		if _, err := netip.ParsePrefix(s); err != nil && !isAddr {
			o.refuse(fmt.Sprintf("%s[%d]", key, i), s, "an IP address or CIDR")
		}
	}
	return list
}

// hardware returns a hardware address in lower-case colon form, of one of the
// lengths given.
func (o *object) hardware(key string, lengths ...int) string {
	s := o.text(key)
	if s == "" {
		return ""
	}
	hw, err := net.ParseMAC(s)
	for _, n := range lengths {
		if err == nil && len(hw) == n {
			return hw.String()
		}
	}
	o.refuse(key, s, "a hardware address of "+strings.Trim(strings.ReplaceAll(fmt.Sprint(lengths), " ", " or "), "[]")+" bytes")
	return ""
}

// device returns a device id. It may become part of a file name (device-info),
// so it must not climb.
func (o *object) device(key string) string {
	s := o.text(key)
	if len(s) > 253 || strings.ContainsAny(s, "/\x00") || s == "." || s == ".." {
		o.refuse(key, s, "a device id such as a PCI address, without '/'")
	}
	return s
}

// gateways returns nil when absent and a list that is not nil for [].
func (o *object) gateways(key string) []netip.Addr {
	list := o.list(key)
	if list == nil {
		return nil
	}
	out := []netip.Addr{}
	for i, v := range list {
		var s string
		a, ok := netip.Addr{}, false
		if json.Unmarshal(v, &s) == nil {
			a, ok = parseAddr(s)
		}
		if !ok || a.IsUnspecified() {
			o.refuse(fmt.Sprintf("%s[%d]", key, i), shown(v), "an IP address")
			return nil
		}
		out = append(out, a)
	}
	return out
}

// arguments returns an object's fields under their own spelling: unlike ours,
// they are not for us to fold.
func (o *object) arguments(key string) map[string]json.RawMessage {
	if o.open(key) == nil || o.err != nil {
		return nil
	}
	var out map[string]json.RawMessage
	if json.Unmarshal(o.raw(key), &out) != nil {
		o.refuse(key, shown(o.raw(key)), "a JSON object")
	}
	return out
}

// portMapping is one entry of the portMappings capability (CNI CONVENTIONS.md).
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// portMappings returns the list in the form that plugins expect.
func (o *object) portMappings(key string) json.RawMessage {
	var out []portMapping
	for i, raw := range o.list(key) {
		m := openObject(fmt.Sprintf("%s%s[%d]", o.path, key, i), raw)
		out = append(out, m.portMapping())
		o.close(m)
	}
	if len(out) == 0 || o.err != nil {
		return nil
	}
	text, _ := json.Marshal(out)
	return text
}

func (o *object) portMapping() portMapping {
	m := portMapping{
		HostPort:      int(o.number("hostPort", 1, 65535)),
		ContainerPort: int(o.number("containerPort", 1, 65535)),
		Protocol:      strings.ToLower(o.text("protocol")),
		HostIP:        o.text("hostIP"),
	}
	for _, key := range []string{"hostPort", "containerPort"} {
		if o.raw(key) == nil {
			o.refuse(key, rawText("absent"), "1..65535")
		}
	}
	switch m.Protocol {
	case "":
		m.Protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		o.refuse("protocol", m.Protocol, "tcp, udp, sctp")
	}
	if _, ok := parseAddr(m.HostIP); m.HostIP != "" && !ok {
		o.refuse("hostIP", m.HostIP, "an IP address")
	}
	return m
}

// bandwidth returns the capability's object with all four numbers: plugins read
// an absent one as 0 anyway, and the reference always writes them.
func (o *object) bandwidth(key string) json.RawMessage {
	b := o.open(key)
	if b == nil {
		return nil
	}
	var v struct {
		IngressRate  int64 `json:"ingressRate"`
		IngressBurst int64 `json:"ingressBurst"`
		EgressRate   int64 `json:"egressRate"`
		EgressBurst  int64 `json:"egressBurst"`
	}
	v.IngressRate, v.IngressBurst = b.rateAndBurst("ingress")
	v.EgressRate, v.EgressBurst = b.rateAndBurst("egress")
	o.close(b)
	if o.err != nil {
		return nil
	}
	text, _ := json.Marshal(v)
	return text
}

// rateAndBurst reads one direction, in bits/s and bits. A burst needs its rate.
func (o *object) rateAndBurst(direction string) (rate, burst int64) {
	rate = o.number(direction+"Rate", 0, math.MaxInt64)
	burst = o.number(direction+"Burst", 0, math.MaxInt64)
	if burst > 0 && rate == 0 {
		o.refuse(direction+"Burst", burst, "0, or together with "+direction+"Rate")
	}
	return rate, burst
}
