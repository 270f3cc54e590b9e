package whereabouts_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/ipam/whereabouts"
)

func pool(t testing.TB, text string) whereabouts.Pool {
	t.Helper()
	var p whereabouts.Pool
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func poolText(name, r, allocations string) string {
	return `{"metadata":{"name":"` + name + `"},"spec":{"range":"` + r + `","allocations":{` + allocations + `}}}`
}

const entry = `{"id":"c1","podref":"blue/p1","ifname":"net1"}`

func TestPoolAddresses(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"IPv4":                {poolText("10.0.0.0-24", "10.0.0.0/24", `"5":`+entry), "|10.0.0.5"},
		"named network":       {poolText("red-10.0.0.0-24", "10.0.0.0/24", `"5":`+entry), "red|10.0.0.5"},
		"IPv6":                {poolText("fd00---64", "fd00::/64", `"1":`+entry), "|fd00::1"},
		"host bits":           {poolText("10.0.0.0-24", "10.0.0.7/24", `"5":`+entry), "|10.0.0.5"},
		"upper half of a /64": {poolText("fd00---64", "fd00::/64", `"9223372036854775813":`+entry), "|fd00::8000:0:0:5"},
		"beyond 64 bits":      {poolText("fd00---48", "fd00::/48", `"18446744073709551617":`+entry), "|fd00:0:0:1::1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pool(t, tt.in).Addresses()
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, a := range got {
				text = append(text, a.Space+"|"+a.Addr.String())
			}
			if d := cmp.Diff(tt.want, strings.Join(text, " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestInvariant9PoolThatCannotBeToldIsRefused(t *testing.T) {
	for _, in := range []string{
		poolText("10.0.0.0-24", "10.0.0.0", `"5":`+entry),
		poolText("10.0.0.0-24", "10.0.0.0/24", `"256":`+entry),
		poolText("10.0.0.0-24", "10.0.0.0/24", `"-1":`+entry),
		poolText("10.0.0.0-24", "10.0.0.0/24", `"05":`+entry),
		poolText("node1-10.0.0.64-26", "10.0.0.0/24", `"5":`+entry),
	} {
		_, err := pool(t, in).Addresses()
		var r *refusal.Refusal
		if !errors.As(err, &r) || !strings.HasPrefix(r.Object, "IPPool ") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestExportIsWhatWasImported(t *testing.T) {
	for _, in := range []string{
		poolText("red-10.0.0.0-24", "10.0.0.0/24", `"5":`+entry+`,"7":`+entry),
		poolText("fd00---64", "fd00::/64", `"9223372036854775813":`+entry),
	} {
		p := pool(t, in)
		addrs, err := p.Addresses()
		if err != nil {
			t.Fatal(err)
		}
		pools, left := whereabouts.Export(addrs, map[string][]netip.Prefix{addrs[0].Space: {netip.MustParsePrefix(p.Spec.Range)}})
		if d := cmp.Diff([]whereabouts.Pool{p}, pools); d != "" || left != nil {
			t.Errorf("%s, left %v", d, left)
		}
	}
	_, left := whereabouts.Export([]whereabouts.Address{{Addr: netip.MustParseAddr("10.0.0.1")}}, nil)
	if len(left) != 1 {
		t.Errorf("an address without a range is not told: %v", left)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.5": "10.0.0.5", "fd00::5": "fd00--5", "fd00::": "fd00--0"} {
		if got := whereabouts.ReservationName("", netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := whereabouts.PoolName("red", netip.MustParsePrefix("fd00::/64")); got != "red-fd00---64" {
		t.Error(got)
	}
}

// FuzzPool: no pool panics; what is accepted lies in its range, and exports to
// the same allocations.
func FuzzPool(f *testing.F) {
	f.Add("10.0.0.0-24", "10.0.0.0/24", "5")
	f.Add("red-fd00---64", "fd00::/64", "9223372036854775813")
	f.Add("0.0.0.0-0", "0.0.0.0/0", "4294967295")
	f.Fuzz(func(t *testing.T, name, r, offset string) {
		var p whereabouts.Pool
		p.Metadata.Name, p.Spec.Range = name, r
		p.Spec.Allocations = map[string]whereabouts.Allocation{offset: {PodRef: "a/b"}}
		addrs, err := p.Addresses()
		if err != nil {
			return
		}
		prefix := netip.MustParsePrefix(r)
		if len(addrs) != 1 || !prefix.Contains(addrs[0].Addr) {
			t.Fatalf("%q %q: %v", r, offset, addrs)
		}
		pools, left := whereabouts.Export(addrs, map[string][]netip.Prefix{addrs[0].Space: {prefix}})
		if len(left) != 0 || len(pools) != 1 || pools[0].Metadata.Name != name {
			t.Fatalf("%q %q: %v, left %v", name, r, pools, left)
		}
		if d := cmp.Diff(p.Spec.Allocations, pools[0].Spec.Allocations); d != "" {
			t.Fatal(d)
		}
	})
}
