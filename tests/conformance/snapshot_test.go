package conformance

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tendril-cni/tendril/cni/netns"
)

// snapshot prints what there is in the host and the pod, a line each.
func (s *side) snapshot() []string {
	s.t.Helper()
	var out []string
	for where, ns := range map[string]*os.File{"host": s.host, "pod": s.pod} {
		for _, line := range s.describe(ns) {
			out = append(out, where+" "+line)
		}
	}
	slices.Sort(out)
	return out
}

func (s *side) describe(ns *os.File) (out []string) {
	h := s.handle(ns)
	links, err := h.LinkList()
	if err != nil {
		s.t.Fatal(err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		out = append(out, describeLink(l, names))
		for _, key := range []string{"ipv4/conf/%s/arp_notify", "ipv6/conf/%s/disable_ipv6", "ipv6/conf/%s/accept_dad", "ipv6/conf/%s/ndisc_notify", "ipv6/conf/%s/keep_addr_on_down", "ipv6/conf/%s/accept_ra"} {
			key = fmt.Sprintf(key, l.Attrs().Name)
			out = append(out, fmt.Sprintf("sysctl %s = %s", key, sysctl(ns, key)))
		}
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, fmt.Sprintf("address %s on %s", a.IPNet, names[a.LinkIndex]))
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range routes {
		if r.Type == unix.RTN_UNICAST && r.Dst != nil && !r.Dst.IP.IsLinkLocalUnicast() {
			out = append(out, fmt.Sprintf("route table %d %s via %v dev %s src %v scope %s metric %d", r.Table, r.Dst, r.Gw, names[r.LinkIndex], r.Src, r.Scope, r.Priority))
		}
	}
	rules, err := h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rules {
		out = append(out, fmt.Sprintf("rule from %v lookup %d", r.Src, r.Table))
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "core/somaxconn"} {
		out = append(out, fmt.Sprintf("sysctl %s = %s", key, sysctl(ns, key)))
	}
	return out
}

func describeLink(l netlink.Link, names map[int]string) string {
	at := l.Attrs()
	extra := ""
	switch l := l.(type) {
	case *netlink.Macvlan:
		extra = fmt.Sprintf(" mode %d queue %d", l.Mode, l.BCQueueLen)
	case *netlink.IPVlan:
		extra = fmt.Sprintf(" mode %d flag %d", l.Mode, l.Flag)
	case *netlink.Vlan:
		extra = fmt.Sprintf(" id %d", l.VlanId)
	case *netlink.Vrf:
		extra = fmt.Sprintf(" table %d", l.Table)
	case *netlink.Bridge:
		extra = fmt.Sprintf(" filtering %t", l.VlanFiltering != nil && *l.VlanFiltering)
	}
	return fmt.Sprintf("link %s %s mtu %d up %t mac %s qlen %d promisc %t allmulti %t master %q%s", at.Name, l.Type(), at.MTU,
		at.Flags&net.FlagUp != 0, at.HardwareAddr, at.TxQLen, at.Promisc != 0, at.RawFlags&unix.IFF_ALLMULTI != 0, names[at.MasterIndex], extra)
}

func sysctl(ns *os.File, key string) string {
	var b []byte
	_ = netns.Do(ns, func() (err error) {
		b, err = os.ReadFile("/proc/sys/net/" + key)
		return err
	})
	return strings.TrimSpace(string(b))
}

var (
	macs  = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
	ports = regexp.MustCompile(`\b(veth[0-9a-f]{8}|t[0-9a-f]{14}|tg[0-9]+\.[0-9]+)\b`)
)

// normalise replaces what may differ: random hardware addresses, the names of
// the host's ends of pairs, the path of the pod.
func (s *side) normalise(lines []string) []string {
	var out []string
	for _, line := range lines {
		line = strings.ReplaceAll(line, path(s.pod), "POD")
		line = ports.ReplaceAllString(line, "PORT")
		line = macs.ReplaceAllStringFunc(line, func(m string) string {
			if strings.HasPrefix(m, "02:") && (strings.HasPrefix(m, "02:aa:") || strings.HasPrefix(m, "02:bb:")) || m == "00:00:00:00:00:00" {
				return m // chosen by the test
			}
			return "MAC"
		})
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// lines prints a JSON answer with one line for each value.
func lines(prefix string, v any) []string {
	switch v := v.(type) {
	case map[string]any:
		var out []string
		for k, e := range v {
			out = append(out, lines(prefix+"."+k, e)...)
		}
		return out
	case []any:
		var out []string
		for i, e := range v {
			out = append(out, lines(fmt.Sprintf("%s[%d]", prefix, i), e)...)
		}
		return out
	}
	text, _ := json.Marshal(v)
	return []string{prefix + " = " + string(text)}
}
