package node

import (
	"fmt"

	"github.com/tendril-cni/tendril/vf"
	"github.com/tendril-cni/tendril/vf/link"
)

// hostOwns says what the host itself uses a PF for, or "" (invariant 7: the host
// keeps its uplink). What cannot be read counts as used.
func hostOwns(pf vf.PF) string {
	if pf.Netdev == "" {
		return ""
	}
	claims, err := link.HostClaims()
	if err != nil {
		return fmt.Sprintf("what the host uses cannot be read: %v", err)
	}
	return claims[pf.Netdev]
}
