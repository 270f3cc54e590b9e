package netconf

import (
	"fmt"
	"slices"
	"strings"
)

// versions are the versions of the CNI specification that Tendril speaks, in
// rising order.
var versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Versions returns the versions of the CNI specification that Tendril speaks,
// in rising order.
func Versions() []string { return slices.Clone(versions) }

// version chooses the highest version that both sides speak out of cniVersion
// and cniVersions (CNI SPEC 1.1, section 1). A definition that names none is of
// the oldest; one that names only versions unknown here is refused.
func (o *object) version() string {
	offered := o.texts("cniVersions")
	if v := o.text("cniVersion"); v != "" {
		offered = append(offered, v)
	}
	best := -1
	for _, v := range offered {
		best = max(best, slices.Index(versions, v))
	}
	if best < 0 && len(offered) > 0 {
		o.refuse("cniVersion", strings.Join(offered, ", "), fmt.Sprintf("one of %s", strings.Join(versions, ", ")))
	}
	return versions[max(best, 0)]
}
