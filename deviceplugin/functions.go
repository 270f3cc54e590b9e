package deviceplugin

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tendril-cni/tendril/cni/refusal"
)

const (
	addressForm   = "a PCI address dddd:bb:dd.f, hexadecimal"
	functionsForm = "name, or name#i,j-k with VF numbers 0..65535 and j not above k"

	subfunctionsForm = "name, or name#i,j-k with subfunction numbers (sfnum) and j not above k"
)

// maxVF is the highest VF number: sriov_numvfs has 16 bits (PCI Express, SR-IOV
// capability), and maxSF that of a subfunction (devlink's u32).
const (
	maxVF = 65535
	maxSF = 1<<32 - 1
)

// Functions are VFs of one PF, as pfNames and rootDevices write them:
// "name#i,j-k", both ends included, VF numbers from 0. Without # it is all VFs.
// Of a resource of auxiliary devices they are subfunctions with these sfnums.
type Functions struct {
	// PF is the name of a network device, or a PCI address in sysfs form.
	PF string
	// Ranges is empty for all VFs.
	Ranges []Range
}

// Range is the functions First to Last, both included.
type Range struct{ First, Last int }

// ParseFunctions reads the form of Functions. One bad part refuses the whole
// entry: half of it would be a pool that nobody asked for.
func ParseFunctions(s string) (Functions, error) { return parseFunctions(s, maxVF, functionsForm) }

func parseFunctions(s string, highest int, form string) (Functions, error) {
	bad := refusal.New("", "", s, form)
	name, list, ranged := strings.Cut(s, "#")
	if name == "" {
		return Functions{}, bad
	}
	f := Functions{PF: name}
	if !ranged {
		return f, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, both := strings.Cut(part, "-")
		if !both {
			last = first
		}
		a, ok1 := number(first, highest)
		b, ok2 := number(last, highest)
		if !ok1 || !ok2 || a > b {
			return Functions{}, bad
		}
		f.Ranges = append(f.Ranges, Range{First: a, Last: b})
	}
	return f, nil
}

// number reads decimal digits alone: a sign or a space is a mistake in a list
// where - and , have a meaning.
func number(s string, highest int) (int, bool) {
	n, err := strconv.Atoi(s)
	if err != nil || n > highest || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	return n, true
}

// Has reports whether function number i is among f. A negative i is no function.
func (f Functions) Has(i int) bool {
	if i < 0 {
		return false
	}
	return len(f.Ranges) == 0 || slices.ContainsFunc(f.Ranges, func(r Range) bool {
		return r.First <= i && i <= r.Last
	})
}

// String returns the form that ParseFunctions reads.
func (f Functions) String() string {
	var b strings.Builder
	b.WriteString(f.PF)
	for i, r := range f.Ranges {
		b.WriteString([]string{"#", ","}[min(i, 1)])
		b.WriteString(strconv.Itoa(r.First))
		if r.Last != r.First {
			b.WriteString("-" + strconv.Itoa(r.Last))
		}
	}
	return b.String()
}
