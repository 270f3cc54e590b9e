package vf

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

// maxIndex is the highest VF number: sriov_numvfs has 16 bits (PCI Express, SR-IOV
// capability).
const maxIndex = 65535

const (
	rangesForm    = "i,j-k,... with VF numbers 0..65535 and j not above k"
	functionsForm = "name, or name#" + rangesForm
)

// Range is the VFs First to Last of a PF, both included, counted from 0.
type Range struct{ First, Last int }

// Ranges is a set of VF numbers. An empty one is all VFs.
type Ranges []Range

// ParseRanges reads "i,j-k,...", and "" as all VFs. One bad part refuses the
// whole: half of it would be a set that nobody asked for.
func ParseRanges(s string) (Ranges, error) {
	if s == "" {
		return nil, nil
	}
	var out Ranges
	for part := range strings.SplitSeq(s, ",") {
		first, last, both := strings.Cut(part, "-")
		if !both {
			last = first
		}
		a, ok1 := index(first)
		b, ok2 := index(last)
		if !ok1 || !ok2 || a > b {
			return nil, refusal.New("", "", s, rangesForm)
		}
		out = append(out, Range{First: a, Last: b})
	}
	return out, nil
}

// index reads decimal digits alone: a sign or a space is a mistake in a list
// where - and , have a meaning.
func index(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= maxIndex && strings.Trim(s, "0123456789") == ""
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

// Functions are VFs of one PF: "name#i,j-k", without # all of them.
type Functions struct {
	// PF is the name of a network device, or a PCI address in sysfs form.
	PF     string
	Ranges Ranges
}

// ParseFunctions reads the form of Functions.
func ParseFunctions(s string) (Functions, error) {
	name, list, ranged := strings.Cut(s, "#")
	ranges, err := ParseRanges(list)
	if name == "" || err != nil || ranged && list == "" {
		return Functions{}, refusal.New("", "", s, functionsForm)
	}
	return Functions{PF: name, Ranges: ranges}, nil
}

// String returns the form that ParseFunctions reads.
func (f Functions) String() string {
	if len(f.Ranges) == 0 {
		return f.PF
	}
	return f.PF + "#" + f.Ranges.String()
}
