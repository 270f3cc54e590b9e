package host

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Wire makes a link for networks to ride on, and its far end, and waits for it to
// carry frames.
func Wire(ctx context.Context, master string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = master
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "uplink1"}); err != nil {
		return nil, fmt.Errorf("make %s: %w", master, err)
	}
	for _, name := range []string{master, "uplink1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return nil, fmt.Errorf("set up %s: %w", name, err)
		}
	}
	var l netlink.Link
	err := Await(ctx, master+" to come up", func() (done bool, err error) {
		l, err = netlink.LinkByName(master)
		return err == nil && l.Attrs().OperState == netlink.OperUp, err
	})
	return l, err
}
