package conformance

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// meant is a difference that is intended: lines that match are left out of the
// comparison, on both sides.
type meant struct{ line, reason string }

// scenario is one case: a chain that is added, checked and deleted twice.
type scenario struct {
	// before prepares the host or the pod.
	before func(t *testing.T, host, pod *netlink.Handle)
	chain  []map[string]any
	call   call
	meant  []meant
}

// everywhere are the differences of all cases.
var everywhere = []meant{
	{`\.mtu = `, "our results say the MTU (CNI 1.1), the reference's do not"},
	{`^pod sysctl ipv[46]/conf/net\d/(arp_notify|ndisc_notify|keep_addr_on_down) = `, "every link with addresses announces them and keeps IPv6 addresses over a down, whatever its kind and family"},
	{`^pod sysctl ipv6/conf/net\d/accept_dad = `, "addresses that our IPAM vouches for skip the detection one by one (IFA_F_NODAD), not by switching it off for the link"},
	{`^result\.cniVersion`, "an older version of the result may leave it out"},
}

func conf(kind string, fields ...any) map[string]any {
	out := map[string]any{"cniVersion": "1.0.0", "name": "blue", "type": kind}
	for i := 0; i+1 < len(fields); i += 2 {
		out[fields[i].(string)] = fields[i+1]
	}
	return out
}

func hostLocal(subnets ...string) map[string]any {
	var ranges []any
	for _, s := range subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": s}})
	}
	return map[string]any{"type": "host-local", "ranges": ranges, "routes": []any{map[string]any{"dst": "0.0.0.0/0"}}}
}

func static(addresses ...string) map[string]any {
	var list []any
	for _, a := range addresses {
		list = append(list, map[string]any{"address": a})
	}
	return map[string]any{"type": "static", "addresses": list}
}

// record runs the scenario on one side and prints everything that can be seen.
func (sc scenario) record(t *testing.T, name string) []string {
	t.Helper()
	s := newSide(t, name)
	if sc.before != nil {
		sc.before(t, s.handle(s.host), s.handle(s.pod))
	}
	var out []string
	add, done := s.add(sc.chain, sc.call)
	if add.code != 0 {
		out = append(out, "ADD failed")
		t.Logf("%s: %s", name, add.text)
	} else {
		out = append(out, lines("result", add.out)...)
	}
	out = append(out, s.snapshot()...)
	if add.code == 0 {
		codes, text := s.each("CHECK", done, add.out, sc.call)
		out = append(out, fmt.Sprint("CHECK ", codes))
		if fmt.Sprint(codes) != fmt.Sprint(make([]int, len(codes))) {
			t.Logf("%s: CHECK: %s", name, text)
		}
	}
	for _, which := range []string{"first", "second"} {
		codes, text := s.each("DEL", sc.chain, add.out, sc.call)
		out = append(out, fmt.Sprint(which, " DEL ", codes))
		if fmt.Sprint(codes) != fmt.Sprint(make([]int, len(codes))) {
			t.Logf("%s: %s DEL: %s", name, which, text)
		}
		for _, line := range s.snapshot() {
			out = append(out, which+" DEL: "+line)
		}
	}
	out = append(out, leases()...)
	return s.normalise(out)
}

// leases lists the addresses that host-local has on disk.
func leases() (out []string) {
	files, err := os.ReadDir("/var/lib/cni/networks/blue")
	if err != nil {
		return nil
	}
	for _, f := range files {
		if f.Name() == "lock" {
			continue // made by whoever looks first; of an ADD that was refused early, by the reference's DEL alone
		}
		data, _ := os.ReadFile("/var/lib/cni/networks/blue/" + f.Name())
		out = append(out, fmt.Sprintf("lease %s %q", f.Name(), data))
	}
	return out
}

func (sc scenario) compare(t *testing.T) {
	t.Helper()
	theirs, ours := sc.record(t, "reference"), sc.record(t, "tendril")
	all := append(append([]meant(nil), everywhere...), sc.meant...)
	for i, m := range all {
		re := regexp.MustCompile(m.line)
		a, b := drop(theirs, re), drop(ours, re)
		if i >= len(everywhere) && cmp.Equal(a.dropped, b.dropped) {
			t.Errorf("the difference %q (%s) is none any more", m.line, m.reason)
		}
		theirs, ours = a.kept, b.kept
	}
	if diff := difference(theirs, ours); diff != "" {
		t.Errorf("(-reference +tendril):\n%s", diff)
	}
}

// difference prints the lines that only one side has.
func difference(theirs, ours []string) string {
	count := map[string]int{}
	for _, l := range theirs {
		count[l]--
	}
	for _, l := range ours {
		count[l]++
	}
	var out []string
	for l, n := range count {
		for ; n < 0; n++ {
			out = append(out, l+"   (-)")
		}
		for ; n > 0; n-- {
			out = append(out, l+"   (+)")
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

type parts struct{ kept, dropped []string }

func drop(lines []string, re *regexp.Regexp) (p parts) {
	for _, l := range lines {
		if re.MatchString(l) {
			p.dropped = append(p.dropped, l)
		} else {
			p.kept = append(p.kept, l)
		}
	}
	return p
}

func run(t *testing.T, cases map[string]scenario) {
	t.Helper()
	for name, sc := range cases {
		t.Run(name, sc.compare)
	}
}
