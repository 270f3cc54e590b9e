//go:build lab

package sriov_test

import (
	"net"
	"testing"

	"github.com/tendril-cni/tendril/cni/netns/netnstest"
)

// put gives a fresh pod VF i with that configuration, and listens there for frames
// of the test.
func put(t *testing.T, i int, config string) (*netnstest.Station, *bench) {
	t.Helper()
	b, ns := take(t, i), netnstest.Pod(t)
	r := b.record(ns, config)
	l := b.attach(ns, &r)
	t.Cleanup(func() { b.detach(ns, r) })
	return netnstest.Listen(t, ns, l.Name), b
}

// TestVLANSeparatesOnTheWire: what a VF on a VLAN sends reaches the VF on the same
// one and not the one on none, nor the other way round.
func TestVLANSeparatesOnTheWire(t *testing.T) {
	a, _ := put(t, 0, `{"type":"sriov","vlan":42,"spoofchk":"off"}`)
	b, _ := put(t, 1, `{"type":"sriov","vlan":42,"spoofchk":"off"}`)
	out, _ := put(t, 2, `{"type":"sriov","spoofchk":"off"}`)
	out2, _ := put(t, 3, `{"type":"sriov","spoofchk":"off"}`)
	tagged := func() { a.Say(a.MAC, netnstest.Everybody, "tagged") }
	plain := func() { out.Say(out.MAC, netnstest.Everybody, "plain") }
	if out2.Hears("tagged", "plain", func() { tagged(); plain() }) {
		t.Error("a VF on no VLAN hears what one on VLAN 42 says")
	}
	if b.Hears("plain", "tagged", func() { plain(); tagged() }) {
		t.Error("a VF on VLAN 42 hears what one on no VLAN says")
	}
}

// TestSpoofCheckIsTheNICsAffair: the PF has what the configuration says for as long
// as the pod has the VF. The NIC drops the forged frames, or does not: the model of
// the lab looks at one bit alone of the register with the spoof checks (DTXSWC), that
// of the loopback. When it learns the others, this test says so, and docs/lab.md
// has a limit less.
func TestSpoofCheckIsTheNICsAffair(t *testing.T) {
	a, guarded := put(t, 0, `{"type":"sriov","mac":"02:00:00:00:0a:01","spoofchk":"on"}`)
	b, open := put(t, 1, `{"type":"sriov","spoofchk":"off"}`)
	if on, off := guarded.pf().Spoofchk, open.pf().Spoofchk; !on || off {
		t.Errorf("at the PF the check is %v and %v, want true and false", on, off)
	}
	forged := net.HardwareAddr{2, 0, 0, 0, 0xf, 0xf}
	if !b.Hears("forged", "own", func() {
		a.Say(forged, netnstest.Everybody, "forged")
		a.Say(a.MAC, netnstest.Everybody, "own")
	}) {
		t.Error("the NIC drops forged frames now: correct docs/lab.md, and have this test want it")
	}
}

// TestPromiscAndAllmulti are set in the pod and undone with everything else.
func TestPromiscAndAllmulti(t *testing.T) {
	b := take(t, 4)
	ns := netnstest.Pod(t)
	r := b.record(ns, `{"type":"sriov","promisc":true,"allmulti":true,"trust":"on"}`)
	b.attach(ns, &r)
	l := netnstest.Link(t, netnstest.Handle(t, ns), "net1").Attrs()
	if l.Promisc == 0 || l.Allmulti == 0 {
		t.Errorf("promisc %d, allmulti %d", l.Promisc, l.Allmulti)
	}
	b.detach(ns, r)
	b.back("after Detach")
}
