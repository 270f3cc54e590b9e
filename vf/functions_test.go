package vf_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tendril-cni/tendril/vf"
)

// FuzzParseFunctions: what is accepted comes back the same through String, and
// selects what its ranges say.
func FuzzParseFunctions(f *testing.F) {
	for _, seed := range []string{"eth0", "eth0#0", "eth0#0-3,5,7-7", "eth0#", "#1", "eth0#1-", "eth0#-1", "eth0#3-1", "eth0#0, 1", "eth0#+1", "eth0#1#2", "eth0#99999999999999999999", "eth0#65536"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fn, err := vf.ParseFunctions(s)
		if err != nil {
			return
		}
		again, err := vf.ParseFunctions(fn.String())
		if err != nil || !cmp.Equal(fn, again) {
			t.Fatalf("%q: %+v, then %+v, %v", s, fn, again, err)
		}
		if strings.Contains(s, "#") == (len(fn.Ranges) == 0) {
			t.Fatalf("%q: ranges %v", s, fn.Ranges)
		}
		for _, r := range fn.Ranges {
			if r.First < 0 || r.First > r.Last || !fn.Has(r.First) || !fn.Has(r.Last) {
				t.Fatalf("%q: range %+v", s, r)
			}
		}
		if fn.Has(-1) {
			t.Fatalf("%q has a device that is no VF", s)
		}
	})
}

func TestParseFunctions(t *testing.T) {
	for _, tc := range []struct {
		in  string
		has []int
		bad bool
	}{
		{in: "eth0", has: []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{in: "eth0#0", has: []int{0}},
		{in: "eth0#1,3-4,4-5", has: []int{1, 3, 4, 5}},
		{in: "eth0#7-7", has: []int{7}},
		{in: "", bad: true},
		{in: "#0", bad: true},
		{in: "eth0#", bad: true},
		{in: "eth0#0,", bad: true},
		{in: "eth0#0,x", bad: true},
		{in: "eth0#0, 1", bad: true},
		{in: "eth0#3-1", bad: true},
		{in: "eth0#1-2-3", bad: true},
		{in: "eth0#-1", bad: true},
		{in: "eth0#+1", bad: true},
		{in: "eth0#0#1", bad: true},
		{in: "eth0#65536", bad: true},
		{in: "eth0# 1", bad: true},
		{in: "eth0#0x1", bad: true},
	} {
		f, err := vf.ParseFunctions(tc.in)
		if (err != nil) != tc.bad {
			t.Errorf("%q: %v", tc.in, err)
			continue
		}
		var has []int
		for i := -1; err == nil && i < 8; i++ {
			if f.Has(i) {
				has = append(has, i)
			}
		}
		if diff := cmp.Diff(tc.has, has); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.in, diff)
		}
	}
}

// TestParseSubfunctions: numbers of subfunctions go further than those of VFs.
func TestParseSubfunctions(t *testing.T) {
	f, err := vf.ParseSubfunctions("eth0#88,65536-4294967295")
	if err != nil || !f.Has(88) || f.Has(89) || !f.Has(70000) || f.Ranges.Last() != 4294967295 {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := vf.ParseSubfunctions("eth0#4294967296"); err == nil || !strings.Contains(err.Error(), vf.SubfunctionsForm) {
		t.Errorf("a number that no subfunction has: %v", err)
	}
}
