package vf_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tendril-cni/tendril/cni/refusal"
	"github.com/tendril-cni/tendril/vf"
)

func TestParseAddr(t *testing.T) {
	for _, s := range []string{"0000:00:00.0", "0000:01:10.2", "ffff:ff:1f.7", "10000:01:00.0"} {
		a, err := vf.ParseAddr(s)
		if err != nil || a.String() != s || !a.IsValid() {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "01:10.2", "0000:01:20.0", "0000:01:10.8", "0000:01:10", "0000:01:10.2 ", "0000:1:10.2", "zzzz:01:10.2", "0000:01:10:2"} {
		var ref *refusal.Refusal
		if a, err := vf.ParseAddr(s); !errors.As(err, &ref) || a.IsValid() {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	}
}

func TestAddrOrdersAsTheBus(t *testing.T) {
	want := []string{"0000:01:10.0", "0000:01:10.2", "0000:01:11.0", "0000:02:00.0", "0001:00:00.0", "10000:00:00.0"}
	var got []vf.Addr
	for _, s := range want {
		got = append(got, vf.MustAddr(s))
	}
	slices.Reverse(got)
	slices.SortFunc(got, vf.Addr.Compare)
	for i, a := range got {
		if a.String() != want[i] {
			t.Errorf("%d: %s, want %s", i, a, want[i])
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	f.Add("0000:01:10.2")
	f.Add("10000:ff:1f.7")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := vf.ParseAddr(s)
		if err != nil {
			return
		}
		var b vf.Addr
		if text, _ := a.MarshalText(); b.UnmarshalText(text) != nil || b != a || len(s) == len(a.String()) && !strings.EqualFold(s, a.String()) {
			t.Errorf("%q is %s is %s", s, a, b)
		}
	})
}
