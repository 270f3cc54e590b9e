package node

import (
	"fmt"
	"sync"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
)

// hostOwns says what the host itself uses a PF for, or "" (invariant 7: the host
// keeps its uplink). The kernel is asked once, when the first PF is asked about;
// what cannot be read counts as used.
func hostOwns() func(vf.PF) string {
	claims := sync.OnceValues(link.HostClaims)
	return func(pf vf.PF) string {
		if pf.Netdev == "" {
			return ""
		}
		byName, err := claims()
		if err != nil {
			return fmt.Sprintf("what the host uses cannot be read: %v", err)
		}
		return byName.Of(pf)
	}
}
