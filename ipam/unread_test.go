package ipam_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/ipam"
)

func TestUnreadKeysAreNamedWithTheirPlace(t *testing.T) {
	for in, want := range map[string][]string{
		`{"type":"host-local","SUBNET":"10.0.0.0/24","ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"10.1.1.0/24","range_start":"10.1.1.9"}]],"dataDir":"/x"}`: {"ipam.ranges[0][1].range_start"},
		`{"type":"host-local","adresses":[],"addresses":[]}`:                                                                      {"ipam.addresses", "ipam.adresses"},
		`{"type":"static","addresses":[{"address":"10.0.0.1/24","gw":"10.0.0.254"}],"subnet":"x","routes":[{"dst":"0.0.0.0/0"}]}`: {"ipam.addresses[0].gw", "ipam.subnet"},
		`{"type":"whereabouts","range":"10.0.0.0/24","rangeStart":"10.0.0.9","log_level":"debug","ipRanges":[{"range":"","gateway":""}]}`: {
			"ipam.ipRanges[0].gateway", "ipam.rangeStart"},
		`{"type":"whereabouts","range":"10.0.0.0/24","dns":{"nameserver":[]}}`: {"ipam.dns.nameserver"},
		`{"type":"host-local","ranges":7}`:                                     nil,
		`{"type":"tendril","nosuch":1}`:                                        nil,
		`{"type":"other","nosuch":1}`:                                          nil,
		`[]`:                                                                   nil,
	} {
		var got []string
		for _, k := range ipam.Unread(json.RawMessage(in)) {
			got = append(got, k.Path)
			if len(k.Known) == 0 || slices.Contains(k.Known, k.Path[strings.LastIndexByte(k.Path, '.')+1:]) {
				t.Errorf("%s: beside %s these are read: %v", in, k.Path, k.Known)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}
