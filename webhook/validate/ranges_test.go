package validate_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/webhook/validate"
)

// TestRangesThatShrink: who has addresses outside of the new ranges is said, in
// cluster-wide spaces alone, and nothing is denied.
func TestRangesThatShrink(t *testing.T) {
	const whole = `{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/24","network_name":"red"}}`
	for _, tt := range []struct {
		after, asked string // space and spans
		held         []validate.Held
		want         string
	}{
		{whole, "", nil, ""},
		{`{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/24","range_start":"10.0.0.10","range_end":"10.0.0.99","network_name":"red"}}`,
			"red 10.0.0.1-10.0.0.9 10.0.0.100-10.0.0.254", []validate.Held{
				{Owner: "claim blue/web-0", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.120")}},
				{Owner: "node one", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}}},
			"claim blue/web-0 has 10.0.0.120, node one has 2 from 10.0.0.2"},
		{`{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.1.0/24","network_name":"red"}}`, "red 10.0.0.1-10.0.0.254", nil, ""},
		{`{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/16","network_name":"red"}}`, "", nil, ""},
		{`{"type":"macvlan","ipam":{"type":"whereabouts","range":"10.0.0.0/25","network_name":"green"}}`, "", nil, ""},
		{`{"type":"macvlan","ipam":{"type":"host-local","subnet":"10.0.0.0/25"}}`, "", nil, ""},
	} {
		asked := ""
		f := validate.Facts{Held: func(space string, spans []validate.Span) []validate.Held {
			asked = space
			for _, s := range spans {
				asked += " " + s.String()
			}
			return tt.held
		}}
		var said []string
		for _, found := range validate.NetworkChange(definition("n", whole), definition("n", tt.after), f) {
			if found.Code == validate.AddressRange {
				said = append(said, found.String())
				if found.Level != validate.Warn {
					t.Errorf("%s: %s", tt.after, found.Level)
				}
			}
		}
		if diff := cmp.Diff(tt.asked, asked); diff != "" {
			t.Errorf("%s: asked for\n%s", tt.after, diff)
		}
		if got := strings.Join(said, "\n"); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: said %q, want %q", tt.after, got, tt.want)
		}
	}
}
