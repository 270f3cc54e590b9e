package conformance

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// Differences of one kind each.
var (
	bridges = []meant{
		{`^(first DEL: |second DEL: )?host link br0 `, "our bridge has a hardware address of its own from the start; the reference's takes that of its lowest port and is pinned only with a gateway"},
		{`^host link PORT `, "the host's end has the kernel's queue length; the reference sets 0"},
	}
	noIPAM = meant{`^CHECK `, "the reference's CHECK fails without an ipam"}
	device = []meant{
		{`DEL: host link up0 `, "a device comes back up, as it was; the reference leaves it down"},
		{`^second DEL \[`, "a second DEL is done; the reference fails"},
	}
	failedConf = meant{`^(first|second) DEL \[`, "DEL goes by what was recorded; the reference's wants a valid configuration"}
)

// TestSameAsTheReference: kinds that every kernel has.
func TestSameAsTheReference(t *testing.T) {
	link := conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24"))
	noRoutes := map[string]any{"type": "host-local", "subnet": "10.2.0.0/24"}
	run(t, map[string]scenario{
		"macvlan":            {chain: []map[string]any{link}},
		"macvlan modes":      {chain: []map[string]any{conf("macvlan", "master", "up0", "mode", "private", "mtu", 1400, "bcqueuelen", 2000, "mac", "02:bb:00:00:00:01", "ipam", static("10.1.0.9/24"))}},
		"macvlan dual stack": {chain: []map[string]any{conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24", "2001:db8:1::/64"))}},
		"macvlan layer 2":    {chain: []map[string]any{conf("macvlan", "master", "up0", "ipam", map[string]any{})}},
		"macvlan mac args":   {chain: []map[string]any{link}, call: call{args: "IgnoreUnknown=1;MAC=02:bb:00:00:00:07"}},
		"macvlan capability": {chain: []map[string]any{with(link, "runtimeConfig", map[string]any{"mac": "02:bb:00:00:00:08", "ips": []any{"10.1.0.77"}})}},
		"macvlan ip ranges":  {chain: []map[string]any{with(link, "runtimeConfig", map[string]any{"ipRanges": []any{[]any{map[string]any{"subnet": "10.9.0.0/24"}}}})}},
		"macvlan IP args":    {chain: []map[string]any{link}, call: call{args: "IgnoreUnknown=1;IP=10.1.0.50"}},
		"macvlan 0.2.0":      {chain: []map[string]any{with(link, "cniVersion", "0.2.0")}},
		"macvlan 0.3.1":      {chain: []map[string]any{with(link, "cniVersion", "0.3.1")}},
		"macvlan 0.4.0":      {chain: []map[string]any{with(link, "cniVersion", "0.4.0")}},
		"macvlan 1.1.0":      {chain: []map[string]any{with(link, "cniVersion", "1.1.0")}},
		"macvlan dns":        {chain: []map[string]any{with(link, "dns", map[string]any{"nameservers": []any{"10.1.0.53"}, "search": []any{"blue"}})}},
		"macvlan bad mode":   {chain: []map[string]any{with(link, "mode", "source")}},
		"macvlan bad mtu":    {chain: []map[string]any{with(link, "mtu", 9001)}},
		"macvlan no master":  {chain: []map[string]any{with(link, "master", "nosuch0")}},
		"macvlan inside": {
			before: func(t *testing.T, host, pod *netlink.Handle) { pairInside(t, pod, "eth0") },
			chain:  []map[string]any{conf("macvlan", "master", "eth0", "linkInContainer", true, "ipam", static("10.1.0.9/24"))}},
		"static": {chain: []map[string]any{conf("macvlan", "master", "up0", "ipam", map[string]any{"type": "static",
			"addresses": []any{map[string]any{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}}, "routes": []any{map[string]any{"dst": "10.8.0.0/16", "gw": "10.1.0.2"}}})}},
		"static args": {chain: []map[string]any{conf("macvlan", "master", "up0", "ipam", static("10.1.0.9/24"))}, call: call{args: "IgnoreUnknown=1;IP=10.1.0.11/24;GATEWAY=10.1.0.1"}},
		"bridge gateway": {chain: []map[string]any{conf("bridge", "bridge", "br0", "isDefaultGateway", true, "ipam", noRoutes)},
			meant: []meant{bridges[1]}},
		"bridge forced": {
			before: func(t *testing.T, host, pod *netlink.Handle) { bridgeWith(t, host, "10.77.0.1/24") },
			chain:  []map[string]any{conf("bridge", "bridge", "br0", "isGateway", true, "forceAddress", true, "ipam", noRoutes)},
			meant:  []meant{bridges[1]}},
		"bridge in the way": {
			before: func(t *testing.T, host, pod *netlink.Handle) { bridgeWith(t, host, "10.77.0.1/24") },
			chain:  []map[string]any{conf("bridge", "bridge", "br0", "isGateway", true, "ipam", noRoutes)},
			meant:  []meant{{`^(pod (link|address|route|sysctl ipv./conf)|host (link|sysctl ipv./conf)/?PORT|host link PORT|host sysctl .*PORT)`, "nothing of a failed ADD is left; the reference leaves both ends of the pair"}}},
		"bridge plain":       {chain: []map[string]any{conf("bridge", "bridge", "br0", "ipam", hostLocal("10.2.0.0/24", "2001:db8:2::/64"))}, meant: bridges},
		"bridge layer 2":     {chain: []map[string]any{conf("bridge", "bridge", "br0", "hairpinMode", true, "mtu", 1400)}, meant: append(bridges, noIPAM)},
		"bridge promisc":     {chain: []map[string]any{conf("bridge", "bridge", "br0", "promiscMode", true)}, meant: append(bridges, noIPAM)},
		"bridge down":        {chain: []map[string]any{conf("bridge", "bridge", "br0", "disableContainerInterface", true)}, meant: append(bridges, noIPAM)},
		"bridge both":        {chain: []map[string]any{conf("bridge", "bridge", "br0", "promiscMode", true, "hairpinMode", true)}},
		"host-device":        {chain: []map[string]any{conf("host-device", "device", "up0", "ipam", static("10.3.0.9/24"))}, meant: device},
		"host-device by MAC": {chain: []map[string]any{conf("host-device", "hwaddr", "02:aa:00:00:00:01")}, meant: device},
		"host-device none":   {chain: []map[string]any{conf("host-device")}, meant: []meant{failedConf}},
		"tuning": {chain: []map[string]any{link, conf("tuning", "mac", "02:bb:00:00:00:03", "mtu", 1300, "promisc", true, "allmulti", true, "txQLen", 77,
			"sysctl", map[string]any{"net.core.somaxconn": "99", "net.ipv4.conf.IFNAME.arp_filter": "1"})},
			meant: []meant{{`DEL: pod sysctl core/somaxconn`, "kernel parameters are given back too"}}},
		"tuning outside net": {chain: []map[string]any{link, conf("tuning", "sysctl", map[string]any{"kernel.panic": "9"})}},
		"tuning twice":       {chain: []map[string]any{link, conf("tuning", "mac", "02:bb:00:00:00:03"), conf("tuning", "mtu", 1300, "sysctl", map[string]any{"net.ipv4.conf.IFNAME.arp_filter": "1"})}},
		"sbr": {chain: []map[string]any{conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24", "10.4.0.0/24")), conf("sbr")},
			meant: []meant{{`^CHECK `, "a CHECK of the interface finds its routes in whatever table; the reference's fails after sbr"}}},
		"sbr table":      {chain: []map[string]any{link, conf("sbr", "table", 50)}},
		"sbr no address": {chain: []map[string]any{conf("macvlan", "master", "up0"), conf("sbr")}, meant: []meant{failedConf}},
	})
}

// bridgeWith makes br0 with an address.
func bridgeWith(t *testing.T, host *netlink.Handle, address string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "br0", []byte{2, 0xaa, 0, 0, 0, 9}
	if err := host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.AddrAdd(netnstest.Link(t, host, "br0"), addr); err != nil {
		t.Fatal(err)
	}
}

// pairInside makes a link in the pod.
func pairInside(t *testing.T, pod *netlink.Handle, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, []byte{2, 0xaa, 0, 0, 0, 3}
	if err := pod.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "w", PeerHardwareAddr: []byte{2, 0xaa, 0, 0, 0, 4}}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, name + "w"} {
		if err := pod.LinkSetUp(netnstest.Link(t, pod, n)); err != nil {
			t.Fatal(err)
		}
	}
}
