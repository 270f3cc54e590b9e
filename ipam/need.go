package ipam

import (
	"fmt"
	"net/netip"
	"strings"
)

// NeedSlots says that the node has no slot for a request: whoever ran Reserve
// has them claimed, outside of the transaction, and runs it again. Nothing was
// written.
type NeedSlots struct {
	Space string
	Wants []Want
	// Network, Owner are whose request it is.
	Network string
	Owner   Owner
	// Beside are addresses that the same request, or one before it in the same
	// transaction, was about to get of the node's slots. They are free again, since
	// nothing was written: what is claimed has to suffice for them as well.
	Beside []netip.Addr
	// Make says that Owner.Claim is to be made if it does not exist: the network is
	// sticky.
	Make bool
}

// StickyClaim names the claim of a StatefulSet's pod in a sticky network, for
// Owner.Claim: it is the same for every pod that ever has the ordinal.
func StickyClaim(namespace, pod, network, ifName string) string {
	return namespace + "/" + strings.ReplaceAll(pod+"."+network+"."+ifName, "_", "-")
}

// Want is one address that is needed.
type Want struct {
	// Index is the range set's index, Set its ranges.
	Index int
	Set   RangeSet
	// Addr is the very address that is asked for, Asked its place among those that
	// are; zero for any of Set.
	Addr  netip.Addr
	Asked int
}

// Error names the space and what is wanted.
func (n *NeedSlots) Error() string {
	parts := make([]string, len(n.Wants))
	for i, w := range n.Wants {
		parts[i] = w.Set.String()
		if w.Addr.IsValid() {
			parts[i] = w.Addr.String()
		}
	}
	return fmt.Sprintf("address space %q: no slot on this node for %s", n.Space, strings.Join(parts, ", "))
}
