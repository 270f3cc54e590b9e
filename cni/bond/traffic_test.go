//go:build lab

package bond_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tendril-cni/tendril/cni/netns"
	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// TestFailOver: the active slave loses its carrier, and the pod goes on over the
// other one.
func TestFailOver(t *testing.T) {
	a, aWire := netnstest.Veth(t)
	b, bWire := netnstest.Veth(t)
	host := netnstest.Handle(t, nil)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = netnstest.Name("br")
	br := &netlink.Bridge{LinkAttrs: attrs}
	addr, _ := netlink.ParseAddr("10.9.0.1/24")
	if err := errors.Join(host.LinkAdd(br), host.LinkSetMaster(aWire, br), host.LinkSetMaster(bWire, br), host.AddrAdd(br, addr), host.LinkSetUp(br)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.LinkDel(br) })
	ln, err := net.Listen("tcp", "10.9.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	pod, d := netnstest.Pod(t), driver()
	r := netnstest.MustAttach(t, d, pod, attachment(false, a, b))
	reach := func() error {
		return netns.Do(pod, func() error {
			dialer := net.Dialer{Timeout: 500 * time.Millisecond, FallbackDelay: -1}
			conn, err := dialer.Dial("tcp", "10.9.0.1:7000")
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
	until := func(what string) {
		t.Helper()
		err := reach()
		for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); {
			err = reach()
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	until("with both slaves")
	inside := netnstest.Handle(t, pod)
	active := netnstest.Link(t, inside, "net1").(*netlink.Bond).ActiveSlave
	lost := aWire
	if active == netnstest.Link(t, inside, b.Attrs().Name).Attrs().Index {
		lost = bWire
	}
	if err := host.LinkSetDown(lost); err != nil {
		t.Fatal(err)
	}
	until("without the active one")
	if now := netnstest.Link(t, inside, "net1").(*netlink.Bond).ActiveSlave; now == active {
		t.Errorf("slave %d is still the active one", now)
	}
	if err := d.Detach(ctx, pod, r); err != nil {
		t.Fatal(err)
	}
}
