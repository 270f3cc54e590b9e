package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// life takes one attachment through every verb: STATUS, ADD, CHECK before and
// after somebody took its address away, GC that has it on its list and GC that has
// not, and DEL of what GC removed.
func life(t *testing.T, chain ...map[string]any) {
	s := newSide(t, "tendril")
	for i := range chain {
		chain[i] = with(chain[i], "cniVersion", "1.1.0")
	}
	before := s.snapshot()
	all := func(verb string, last map[string]any, change func(map[string]any) map[string]any) []int {
		var changed []map[string]any
		for _, c := range chain {
			changed = append(changed, change(c))
		}
		codes, text := s.each(verb, changed, last, call{})
		if slices.Max(codes) != 0 || slices.Min(codes) != 0 {
			t.Logf("%s: %v: %s", verb, codes, text)
		}
		return codes
	}
	same := func(c map[string]any) map[string]any { return c }
	valid := func(list ...any) func(map[string]any) map[string]any {
		return func(c map[string]any) map[string]any { return with(c, "cni.dev/valid-attachments", list) }
	}
	want := func(what string, codes []int) {
		t.Helper()
		if fmt.Sprint(codes) != fmt.Sprint(make([]int, len(chain))) {
			t.Errorf("%s: codes %v", what, codes)
		}
	}
	want("STATUS", all("STATUS", nil, same))
	added, _ := s.add(chain, call{})
	if added.code != 0 {
		t.Fatal(added.text)
	}
	want("STATUS while it is there", all("STATUS", nil, same))
	want("GC that has it on its list", all("GC", nil, valid(map[string]any{"containerID": "pod1", "ifname": "net1"})))
	want("CHECK", all("CHECK", added.out, same))
	h := s.handle(s.pod)
	l := netnstest.Link(t, h, "net1")
	addrs, err := h.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 {
		t.Fatalf("addresses %v, %v", addrs, err)
	}
	if err := h.AddrDel(l, &addrs[0]); err != nil {
		t.Fatal(err)
	}
	if codes := all("CHECK", added.out, same); codes[0] == 0 {
		t.Errorf("CHECK without the address: codes %v", codes)
	}
	// null is how libcni writes an empty list.
	want("GC that has it not", all("GC", nil, func(c map[string]any) map[string]any { return with(c, "cni.dev/valid-attachments", nil) }))
	s.empty()
	// The bridge stays, and the rules that the kernel makes with a pod's first VRF.
	after := drop(s.normalise(s.snapshot()), regexp.MustCompile(`^(host (link br0 |sysctl ipv./conf/br0/)|pod rule from <nil> lookup 0$)`)).kept
	if diff := difference(s.normalise(before), after); diff != "" {
		t.Errorf("GC leaves (-before +after):\n%s", diff)
	}
	for range 2 {
		want("DEL of what GC removed", all("DEL", added.out, same))
	}
	want("STATUS at the end", all("STATUS", nil, same))
}

// TestEveryVerb: kinds that every kernel has.
func TestEveryVerb(t *testing.T) {
	link := conf("macvlan", "master", "up0", "ipam", hostLocal("10.1.0.0/24"))
	for name, chain := range map[string][]map[string]any{
		"macvlan":     {link},
		"bridge":      {conf("bridge", "bridge", "br0", "ipam", hostLocal("10.2.0.0/24"))},
		"host-device": {conf("host-device", "device", "up0", "ipam", hostLocal("10.3.0.0/24"))},
		"tuning":      {link, conf("tuning", "mtu", 1300, "sysctl", map[string]any{"net.ipv4.conf.IFNAME.arp_filter": "1"})},
		"sbr":         {link, conf("sbr")},
	} {
		t.Run(name, func(t *testing.T) { life(t, chain...) })
	}
}
