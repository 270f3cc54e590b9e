package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/tendril-cni/tendril/cni"
	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/ipam/probe"
)

// carrierTime is how long a link that was just made may take to have carrier.
const carrierTime = 3 * time.Second

// prober implements cni.Prober.
type prober struct{}

// Conflicts implements cni.Prober.
func (prober) Conflicts(ctx context.Context, ns *os.File, link cni.Link, addrs []netip.Addr) (map[netip.Addr]string, error) {
	hw, err := net.ParseMAC(link.MAC)
	if link.Index == 0 || err != nil || len(hw) != len(probe.MAC{}) {
		return nil, fmt.Errorf("link %q with hardware address %q is no Ethernet link of this kernel: %w", link.Name, link.MAC, cni.ErrUnasked)
	}
	if err := awaitCarrier(ctx, ns, link.Index); err != nil {
		return nil, err
	}
	var found []probe.Conflict
	err = netns.Do(ns, func() (err error) {
		found, err = probe.Conflicts(ctx, link.Index, probe.MAC(hw), addrs...)
		return err
	})
	out := map[netip.Addr]string{}
	for _, c := range found {
		out[c.Addr] = net.HardwareAddr(c.MAC[:]).String()
	}
	return out, err
}

// awaitCarrier returns when the link can send.
func awaitCarrier(ctx context.Context, ns *os.File, index int) error {
	conn, err := netns.Dial(ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	for end := time.Now().Add(carrierTime); ; {
		l, err := conn.LinkByIndex(index)
		switch {
		case err != nil:
			return err
		case l.Carrier():
			return nil
		case time.Now().After(end):
			return fmt.Errorf("link %s has no carrier: %w", l.Name, cni.ErrUnasked)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
