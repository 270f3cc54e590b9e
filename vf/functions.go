package vf

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// maxIndex is the highest VF number: sriov_numvfs has 16 bits (PCI Express, SR-IOV
// capability), and maxSubfunction that of a subfunction (devlink's u32).
const (
	maxIndex       = 65535
	maxSubfunction = 1<<32 - 1
)

// What the parsers of this file read, for refusals.
const (
	RangesForm       = "i,j-k,... with VF numbers 0..65535 and j not above k"
	FunctionsForm    = "name, or name#i,j-k with VF numbers 0..65535 and j not above k"
	SubfunctionsForm = "name, or name#i,j-k with subfunction numbers (sfnum) and j not above k"
)

// Range is the VFs First to Last of a PF, both included, counted from 0.
type Range struct{ First, Last int }

// Ranges is a set of VF numbers. An empty one is all VFs.
type Ranges []Range

// ParseRanges reads RangesForm, and "" as all VFs. One bad part refuses the whole:
// half of it would be a set that nobody asked for.
func ParseRanges(s string) (Ranges, error) {
	r, ok := parseRanges(s, maxIndex)
	if !ok {
		return nil, refusal.New("", "", s, RangesForm)
	}
	return r, nil
}

func parseRanges(s string, highest int) (out Ranges, ok bool) {
	if s == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, both := strings.Cut(part, "-")
		if !both {
			last = first
		}
		a, ok1 := position(first, highest)
		b, ok2 := position(last, highest)
		if !ok1 || !ok2 || a > b {
			return nil, false
		}
		out = append(out, Range{First: a, Last: b})
	}
	return out, true
}

// position reads decimal digits alone: a sign or a space is a mistake in a list
// where - and , have a meaning.
func position(s string, highest int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= highest && strings.Trim(s, "0123456789") == ""
}

// Has reports whether VF number i is in r. A negative i is no VF.
func (r Ranges) Has(i int) bool {
	return i >= 0 && (len(r) == 0 || slices.ContainsFunc(r, func(x Range) bool { return x.First <= i && i <= x.Last }))
}

// Last is the highest VF number in r, -1 for all VFs.
func (r Ranges) Last() int {
	last := -1
	for _, x := range r {
		last = max(last, x.Last)
	}
	return last
}

// String returns the form that ParseRanges reads.
func (r Ranges) String() string {
	var parts []string
	for _, x := range r {
		part := strconv.Itoa(x.First)
		if x.Last != x.First {
			part += "-" + strconv.Itoa(x.Last)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// Functions are VFs of one PF, as pfNames and rootDevices write them:
// "name#i,j-k", both ends included, numbers from 0; without # all of them. Of
// auxiliary devices they are subfunctions with these sfnums.
type Functions struct {
	// PF is the name of a network device, or a PCI address in sysfs form.
	PF     string
	Ranges Ranges
}

// ParseFunctions reads FunctionsForm.
func ParseFunctions(s string) (Functions, error) { return parseFunctions(s, maxIndex, FunctionsForm) }

// ParseSubfunctions reads SubfunctionsForm.
func ParseSubfunctions(s string) (Functions, error) {
	return parseFunctions(s, maxSubfunction, SubfunctionsForm)
}

func parseFunctions(s string, highest int, form string) (Functions, error) {
	name, list, ranged := strings.Cut(s, "#")
	ranges, ok := parseRanges(list, highest)
	if name == "" || !ok || ranged && list == "" {
		return Functions{}, refusal.New("", "", s, form)
	}
	return Functions{PF: name, Ranges: ranges}, nil
}

// Has reports whether function number i is among f. A negative i is no function.
func (f Functions) Has(i int) bool { return f.Ranges.Has(i) }

// String returns the form that ParseFunctions reads.
func (f Functions) String() string {
	if len(f.Ranges) == 0 {
		return f.PF
	}
	return f.PF + "#" + f.Ranges.String()
}
