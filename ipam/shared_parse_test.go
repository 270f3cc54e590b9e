package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam"
)

func own(inside string) string { return `{"type":"tendril",` + inside + `}` }

func printShared(c *ipam.Cluster) string {
	var b strings.Builder
	for _, set := range c.Sets {
		for _, r := range set {
			fmt.Fprintf(&b, "%s /%d gw %s not %v\n", r, r.Subnet.Bits(), r.Gateway, r.Exclude)
		}
	}
	return b.String()
}

func TestParseShared(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"range":                   {wb(`"range":"10.0.0.0/24"`), "10.0.0.1-10.0.0.254 /24 gw invalid IP not []\n"},
		"host bits are ignored":   {wb(`"range":"192.168.2.230/28"`), "192.168.2.225-192.168.2.238 /28 gw invalid IP not []\n"},
		"leading zeros":           {wb(`"range":"010.000.0.00/24"`), "10.0.0.1-10.0.0.254 /24 gw invalid IP not []\n"},
		"start and end":           {wb(`"range":"10.0.0.0/24","range_start":"10.0.0.10","range_end":"10.0.0.20"`), "10.0.0.10-10.0.0.20 /24 gw invalid IP not []\n"},
		"first and last as ends":  {wb(`"range":"10.0.0.0/24","range_start":"10.0.0.0","range_end":"10.0.0.255"`), "10.0.0.1-10.0.0.254 /24 gw invalid IP not []\n"},
		"dash":                    {wb(`"range":"10.0.0.5-10.0.0.9/24"`), "10.0.0.5-10.0.0.9 /24 gw invalid IP not []\n"},
		"dash beats start":        {wb(`"range":"10.0.0.5-10.0.0.9/24","range_start":"10.0.0.7"`), "10.0.0.5-10.0.0.9 /24 gw invalid IP not []\n"},
		"top range goes first":    {wb(`"range":"10.0.0.0/30","ipRanges":[{"range":"fd00::/126"}]`), "10.0.0.1-10.0.0.2 /30 gw invalid IP not []\nfd00::1-fd00::2 /126 gw invalid IP not []\n"},
		"gateway of its family":   {wb(`"ipRanges":[{"range":"fd00::/126"},{"range":"10.0.0.0/30"}],"gateway":"10.0.0.1"`), "fd00::1-fd00::2 /126 gw invalid IP not []\n10.0.0.1-10.0.0.2 /30 gw 10.0.0.1 not []\n"},
		"exclude, bare and wider": {wb(`"range":"10.0.0.0/24","exclude":["10.0.0.5","10.0.0.229/30","10.0.0.230"]`), "10.0.0.1-10.0.0.254 /24 gw invalid IP not [10.0.0.5/32 10.0.0.228/30]\n"},
		"keys without a meaning": {wb(`"range":"10.0.0.0/30","datastore":"kubernetes","etcd_host":"x","kubernetes":{"kubeconfig":"/x"},"log_file":"/l","leader_lease_duration":1500,"enable_overlapping_ranges":false,"optimistic_ipam":true,"node_slice_size":"/26","sleep_for_race":3`),
			"10.0.0.1-10.0.0.2 /30 gw invalid IP not []\n"},
		"own": {own(`"network":"blue","ranges":[{"subnet":"10.0.0.0/24","start":"10.0.0.9","gateway":"10.0.0.1","exclude":["10.0.0.12/31"]},{"subnet":"fd00::/64","gateway":"fe80::1"}]`),
			"10.0.0.9-10.0.0.254 /24 gw 10.0.0.1 not [10.0.0.12/31]\nfd00::1-fd00::ffff:ffff:ffff:fffe /64 gw fe80::1 not []\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ipam.Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, printShared(c.Cluster)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInvariant9SharedParseRefusesNamingFieldAndValue(t *testing.T) {
	for _, tt := range []struct{ in, field, value string }{
		{wb(`"x":1`), "ipam.range", `""`},
		{wb(`"range":"10.0.0.0"`), "ipam.range", `"10.0.0.0"`},
		{wb(`"range":"10.0.0.0/31"`), "ipam.range", `"10.0.0.0/31"`},
		{wb(`"range":"fd00::/128"`), "ipam.range", `"fd00::/128"`},
		{wb(`"range":"::/8"`), "ipam.range", `"::/8"`},
		{wb(`"range":"10.1.0.1-10.0.0.9/24"`), "ipam.range", `"10.1.0.1"`},
		{wb(`"range":"10.0.0.9-10.0.0.5/24"`), "ipam.range", `"10.0.0.5"`},
		{wb(`"range":"10.0.0.0/24","range_start":"x"`), "ipam.range_start", `"x"`},
		{wb(`"range":"10.0.0.0/24","range_start":"10.0.1.1"`), "ipam.range_start", `"10.0.1.1"`},
		{wb(`"range":"10.0.0.0/24","range_start":"10.0.0.9","range_end":"10.0.0.8"`), "ipam.range_end", `"10.0.0.8"`},
		{wb(`"range":"10.0.0.0/24","exclude":["a"]`), "ipam.exclude[0]", `"a"`},
		{wb(`"range":"10.0.0.0/24","exclude":["fd00::1"]`), "ipam.exclude[0]", `"fd00::1"`},
		{wb(`"range":"10.0.0.0/24","gateway":"gw"`), "ipam.gateway", `"gw"`},
		{wb(`"range":"10.0.0.0/24","network_name":"Blue"`), "ipam.network_name", `"Blue"`},
		{wb(`"ipRanges":[{"range":"10.0.0.0/24"},{"range":""}]`), "ipam.ipRanges[1].range", `""`},
		{wb(`"range":5`), "ipam.range", `5`},
		{own(`"ranges":[]`), "ipam.ranges", `"[]"`},
		{own(`"rangez":[]`), "ipam", `"rangez"`},
		{own(`"ranges":[{"subnet":"10.0.0.1/24"}]`), "ipam.ranges[0].subnet", `"10.0.0.1/24"`},
		{own(`"ranges":[{"subnet":"10.0.0.0/24","end":"10.0.1.0"}]`), "ipam.ranges[0].end", `"10.0.1.0"`},
		{own(`"ranges":[{"subnet":"10.0.0.0/24","gateway":"fd00::1"}]`), "ipam.ranges[0].gateway", `"fd00::1"`},
		{own(`"ranges":[{"subnet":"10.0.0.0/24"}],"probe":"sometimes"`), "ipam.probe", `"sometimes"`},
	} {
		_, err := ipam.Parse([]byte(tt.in))
		wantRefusal(t, tt.in, err, tt.field, tt.value)
	}
}

func TestMaskAgreesWithTheAddresses(t *testing.T) {
	c := config(t, wb(`"range":"10.0.0.50-10.0.1.70/23","gateway":"10.0.0.60","exclude":["10.0.0.64/30","10.0.1.64"]`)).Cluster
	got := 0
	for n := range c.Sets[0].Cells() {
		at := c.Sets[0].Cell(n)
		m := c.Sets[0].Mask(at)
		for i := range ipam.CellSize {
			a := at.Addr(i)
			r := c.Sets[0][0]
			want := r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0 && a != r.Gateway
			for _, x := range r.Exclude {
				want = want && !x.Contains(a)
			}
			if m.Has(i) != want {
				t.Errorf("%s: %v, want %v", a, m.Has(i), want)
			}
		}
		got += m.Count()
	}
	if want := int(c.Sets[0].Capacity()); got != want {
		t.Errorf("%d slots in the masks, capacity %d", got, want)
	}
}

// TestCapacityAndCells: every address counts once, those that are left out not at
// all, however wide the range is.
func TestCapacityAndCells(t *testing.T) {
	for in, want := range map[string]string{
		`"range":"10.0.0.0/24"`:                                                "254 in 4 cells from 10.0.0.0/26",
		`"range":"10.0.0.0/24","gateway":"10.0.0.1"`:                           "253 in 4 cells from 10.0.0.0/26",
		`"range":"10.0.0.0/24","gateway":"10.0.0.1","exclude":["10.0.0.0/28"]`: "239 in 4 cells from 10.0.0.0/26",
		`"range":"10.0.0.0/24","exclude":["10.0.0.5","10.0.0.9"]`:              "252 in 4 cells from 10.0.0.0/26",
		`"range":"10.0.0.0/24","exclude":["10.0.0.0/26"]`:                      "191 in 3 cells from 10.0.0.64/26",
		`"range":"10.0.0.0/24","exclude":["10.0.0.0/25","10.0.0.128/25"]`:      "0 in 0 cells from ",
		`"range":"fd00::/64"`:                                                  "18446744073709551614 in 288230376151711744 cells from fd00::/122",
		`"range":"fd00::/48","exclude":["fd00::/64"]`:                          "18446744073709551615 in 18446744073709551615 cells from fd00:0:0:1::/122",
		`"range":"fd00::/48","exclude":["fd00::/49","fd00:0:0:8000::/50"]`:     "18446744073709551615 in 18446744073709551615 cells from fd00:0:0:c000::/122",
		`"range":"fd00::/48","exclude":["fd00::/49","fd00:0:0:8000::/49"]`:     "0 in 0 cells from ",
	} {
		set := config(t, wb(in)).Cluster.Sets[0]
		got, first := "", ""
		if set.Cells() > 0 {
			first = set.Cell(0).String()
		}
		if got = fmt.Sprintf("%d in %d cells from %s", set.Capacity(), set.Cells(), first); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestCellNames(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.70": "10-0-0-64 10.0.0.64/26", "fd00::41": "fd00-0000-0000-0000-0000-0000-0000-0040 fd00::40/122"} {
		c := ipam.CellOf(netip.MustParseAddr(in))
		if got := c.Name() + " " + c.String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
		if back, err := ipam.ParseCell(c.String()); err != nil || back != c {
			t.Errorf("%s: back %v, %v", in, back, err)
		}
	}
}

// FuzzParseShared: no input panics; what is refused is refused properly; what is
// accepted hands out only addresses of its subnet, neither first nor last, in
// the shared types.
func FuzzParseShared(f *testing.F) {
	for _, s := range []string{
		wb(`"range":"10.0.0.5-10.0.0.9/24"`), wb(`"range":"010.0.0.0/24","exclude":["10.0.0.229/30"]`),
		wb(`"ipRanges":[{"range":"fd00::/64"},{"range":"10.0.0.0/30"}],"gateway":"10.0.0.1"`),
		own(`"ranges":[{"subnet":"fd00::/64","start":"fd00::5"}]`), hl(`"subnet":"10.0.0.0/24"`),
		wb(`"range":"10.0.0.0/24","exclude":["10.0.0.0/25","10.0.0.128/25"]`), wb(`"range":"fd00::/48","exclude":["fd00::/56","fd00:0:0:ff00::/56"]`),
		wb(`"range":"::ffff:10.0.0.0/120"`), wb(`"range":"255.255.255.252/30"`), wb(`"range":"ffff::/16"`),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, err := ipam.Parse([]byte(in))
		if err != nil {
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Field == "" || r.Allowed == "" {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		if c.Cluster == nil {
			return
		}
		for _, set := range c.Cluster.Sets {
			if set.Cells() == 0 {
				if set.Capacity() != 0 {
					t.Fatalf("%q: no cells for %d addresses", in, set.Capacity())
				}
				continue // all is excluded
			}
			for _, n := range []uint64{0, set.Cells() - 1} {
				at := set.Cell(n)
				for _, i := range set.Mask(at).Slots() {
					a, r := at.Addr(i), set[0]
					if !r.Subnet.Contains(a) || a == r.Subnet.Addr() || !r.Subnet.Contains(a.Next()) || a == r.Gateway {
						t.Fatalf("%q hands out %s of %s", in, a, r.Subnet)
					}
				}
			}
		}
	})
}
